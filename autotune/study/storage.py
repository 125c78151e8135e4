"""Opens the Optuna storage a study is recorded in, and says clearly why it cannot.

    sqlite:///path      the embedded default: WAL, private file, one controller
    postgresql://...    for teams; also mysql:// and mariadb:// by URL
    journal:///path     Optuna's journal file

Nothing here writes a password: what is shown or saved goes through `redact_url`.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.errors import AutotuneError, BadInput, InfrastructureError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "fuse.sshfs"}
PASSWORD = re.compile(r"(?P<head>://[^:/@\s]*:)[^@/\s]+(?P<tail>@)")
SCHEMES = ("sqlite", "postgresql", "mysql", "mariadb", "journal")


class StorageAway(InfrastructureError):
    """The storage did not answer; the same call may go through later."""


def redact_url(url: str) -> str:
    """The URL without its password."""
    return PASSWORD.sub(r"\g<head>***\g<tail>", url)


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL; None for any other URL."""
    if not url.startswith("sqlite:///"):
        return None
    return Path(url.removeprefix("sqlite:///").split("?")[0])


def file_system_type(path: Path) -> str:
    """The type of the file system a path lies on ("" where /proc/mounts is not there)."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    resolved = path.resolve()
    best = ("", "")
    for line in mounts:
        fields = [word.replace("\\040", " ") for word in line.split()]
        if (
            len(fields) >= 3
            and resolved.is_relative_to(fields[1])
            and len(fields[1]) > len(best[0])
        ):
            best = (fields[1], fields[2])
    return best[1]


def open_storage(url: str) -> BaseStorage:
    """The Optuna storage of a URL, its schema created when it is empty.

    Raises BadInput for a URL we do not know or a schema of another version,
    StorageAway when the database does not answer.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    scheme = url.split(":", 1)[0].split("+", 1)[0]
    if scheme not in SCHEMES:
        raise BadInput.unknown("storage scheme", scheme, SCHEMES, where="--storage")
    if scheme == "journal":
        return _open_journal(url)
    path = sqlite_path(url)
    if path is not None:
        _prepare_sqlite(path)
    return _open_relational(url)


def _open_journal(url: str) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = Path(url.removeprefix("journal://"))
    if not path.is_absolute():
        raise BadInput(
            f"--storage {url}: a journal needs an absolute path, journal:///path/file.log"
        )
    path.touch(mode=0o600, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _prepare_sqlite(path: Path) -> None:
    """Create the file privately and in WAL mode; refuse a network file system."""
    kind = file_system_type(path.parent)
    if kind in NETWORK_FILE_SYSTEMS:
        raise BadInput(
            f"{path}: lies on a network file system ({kind}), where SQLite loses data. Set "
            "AUTOTUNE_HOME to a local disk, or give --storage postgresql://... or journal:///..."
        )
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        os.close(descriptor)
        with sqlite3.connect(path, timeout=30) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    except (OSError, sqlite3.DatabaseError) as error:
        if _is_full(error):
            raise _full(f"sqlite:///{path}") from error
        raise BadInput(
            f"{path}: not a usable SQLite database ({error}). "
            f"`autotune storage check` tells what stands and can rebuild it."
        ) from error


def _open_relational(url: str) -> BaseStorage:
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy import event

    is_sqlite = url.startswith("sqlite")
    engine_options: dict[str, object] = {"pool_pre_ping": True}
    if is_sqlite:
        engine_options["connect_args"] = {"timeout": 60}
    try:
        storage = RDBStorage(url, engine_kwargs=engine_options)
    except (sqlalchemy.exc.ArgumentError, ImportError) as error:
        raise BadInput(f"--storage {redact_url(url)}: {error}") from error
    except RuntimeError as error:
        raise BadInput(
            f"{redact_url(url)}: was written by another version of Optuna. Run "
            f"`autotune storage upgrade {redact_url(url)}` (it makes a backup first)."
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        raise StorageAway(_away(url, error)) from error
    if is_sqlite:

        @event.listens_for(storage.engine, "connect")
        def _relax_syncing(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()
    return storage


def close_storage(storage: BaseStorage) -> None:
    """Give its connections back now: a server has few, and a pool keeps them until collected."""
    from optuna.storages import RDBStorage

    storage.remove_session()
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()


def _away(url: str, error: BaseException) -> str:
    cause = redact_url(str(error.__cause__ or error).strip().splitlines()[0])
    return f"storage {redact_url(url)} does not answer: {cause}"


def _is_full(error: BaseException) -> bool:
    signs = ("disk is full", "No space left", "disk I/O error")
    return any(sign in str(error) for sign in signs)


def _full(url: str) -> InfrastructureError:
    return InfrastructureError(
        f"storage {redact_url(url)}: the disk is full. Free space, then `autotune resume`; "
        "what was measured is kept."
    )


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a storage raises when it is away into StorageAway."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except AutotuneError:
        raise
    except (StorageInternalError, sqlalchemy.exc.OperationalError) as error:
        if _is_full(error.__cause__ or error):
            raise _full(url) from error
        raise StorageAway(_away(url, error)) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InfrastructureError(
            f"storage {redact_url(url)} holds a row that no autotune wrote ({error}). "
            "`autotune storage repair` rebuilds a study from its trials' own files."
        ) from error
    except (sqlalchemy.exc.InterfaceError, sqlalchemy.exc.InternalError, OSError) as error:
        raise StorageAway(_away(url, error)) from error
