"""A real PostgreSQL of the test's own, on a free port, as user postgres."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotune.launchers.host import free_port


class Postgres:
    """One server; stop and start it as the test needs."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries = binaries
        self.folder = folder
        self.port = free_port()

    def _as_postgres(self, *words: str) -> None:
        account = pwd.getpwnam("postgres")
        rights: dict[str, object] = {}
        if os.geteuid() == 0:
            rights = {"user": account.pw_uid, "group": account.pw_gid}
        subprocess.run(
            words, check=True, cwd=self.folder, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, **rights,
        )  # fmt: skip

    def create(self) -> None:
        """Make the cluster."""
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self._as_postgres(
            str(self.binaries / "initdb"), "-D", f"{self.folder}/data", "-A", "trust", "-N"
        )

    def start(self) -> None:
        """Start and wait until it answers."""
        options = f"-p {self.port} -k {self.folder} -h 127.0.0.1 -F"
        self._as_postgres(
            str(self.binaries / "pg_ctl"), "-D", f"{self.folder}/data", "-w", "-o", options,
            "-l", f"{self.folder}/log", "start",
        )  # fmt: skip

    def stop(self) -> None:
        """Stop at once, dropping connections."""
        self._as_postgres(
            str(self.binaries / "pg_ctl"), "-D", f"{self.folder}/data", "-m", "fast", "-w", "stop"
        )

    def database(self, name: str) -> str:
        """A new database's URL."""
        self._as_postgres(
            str(self.binaries / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), name
        )
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/{name}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server; skipped where PostgreSQL is not installed, unless all is required."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        if os.environ.get("AUTOTUNE_REQUIRE_ALL"):
            pytest.fail("PostgreSQL is not installed and AUTOTUNE_REQUIRE_ALL is set")
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="autotune-pg-") as folder:
        server = Postgres(found[-1].parent, Path(folder))
        server.create()
        server.start()
        yield server
        server.stop()
