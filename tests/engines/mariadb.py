"""A real MariaDB of the test's own, on a free port, for the mysql+pymysql:// storages."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotune.launchers.host import free_port
from tests.launchers.gangs import need


class MariaDb:
    """One server; stop and start it as the test needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._server: subprocess.Popen[bytes] | None = None

    def _client(self, *words: str) -> list[str]:
        return [
            words[0],
            "--no-defaults",
            f"--socket={self.folder}/socket",
            "-u",
            "root",
            *words[1:],
        ]

    def create(self) -> None:
        """Make the data directory; the account that tests use has a password."""
        user = ["--user=mysql"] if os.geteuid() == 0 else []
        if user:
            shutil.chown(self.folder, "mysql", "mysql")
        argv = ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data", *user]
        argv += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(argv, check=True, capture_output=True)

    def start(self) -> None:
        """Start and wait until it answers."""
        user = ["--user=mysql"] if os.geteuid() == 0 else []
        argv = ["mariadbd", "--no-defaults", *user, f"--datadir={self.folder}/data"]
        argv += [f"--socket={self.folder}/socket", f"--port={self.port}"]
        argv += ["--bind-address=127.0.0.1", f"--pid-file={self.folder}/pid"]
        argv += ["--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0"]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(argv, stdout=log, stderr=log)
        bound = time.monotonic() + 60.0
        ping = self._client("mariadb-admin", "ping")
        while subprocess.run(ping, capture_output=True, check=False).returncode != 0:
            if time.monotonic() > bound or self._server.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop, dropping connections."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(30.0)

    def database(self, name: str) -> str:
        """A new database's URL, its password in it."""
        words = (
            f"CREATE DATABASE {name}; "
            "CREATE USER IF NOT EXISTS 'tuner'@'127.0.0.1' IDENTIFIED BY 'canary-pw'; "
            f"GRANT ALL ON {name}.* TO 'tuner'@'127.0.0.1';"
        )
        subprocess.run(self._client("mariadb", "-e", words), check=True, capture_output=True)
        return f"mysql+pymysql://tuner:canary-pw@127.0.0.1:{self.port}/{name}"

    def connections(self, name: str) -> int:
        """How many connections to a database stand now."""
        words = f"SELECT count(*) FROM information_schema.processlist WHERE db = '{name}'"
        asked = self._client("mariadb", "--skip-column-names", "-e", words)
        return int(subprocess.run(asked, check=True, capture_output=True).stdout)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """A running server; skipped where MariaDB or PyMySQL is missing, unless all is required."""
    try:
        import pymysql  # noqa: F401
    except ImportError:
        need("PyMySQL is not installed")
    for program in ("mariadbd", "mariadb-install-db", "mariadb-admin"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            need(f"MariaDB is not installed: no {program}")
    with tempfile.TemporaryDirectory(prefix="autotune-my-") as folder:
        server = MariaDb(Path(folder))
        server.create()
        server.start()
        yield server
        server.stop()
