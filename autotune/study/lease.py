"""One controller per study: a lease with an epoch, held in the storage.

    free --acquire--> held(epoch n) --renew--> held(epoch n)
                         |  expired on the database's clock, or its holder is seen dead here
                         v
                      held(epoch n+1) by another; who still believes in epoch n is fenced

Relational storages compare and set one row on the database's own clock; a journal file has
a lock file beside it. A holder on this very host that is dead (pid and start time) is
replaced at once, so that nobody waits after a crash.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from autotune.errors import StudyHeld

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import Connection, Engine

LEASE_S = 30.0


def lease_seconds() -> float:
    """How long a lease lasts without renewal; ``AUTOTUNE_LEASE_S`` overrides it in tests."""
    return float(os.environ.get("AUTOTUNE_LEASE_S", LEASE_S))


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: enough to name them and to see, on their own host, whether they live."""

    host: str
    pid: int
    started: float
    since: str

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        pid = os.getpid()
        now = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
        return cls(socket.gethostname(), pid, psutil.Process(pid).create_time(), now)

    def seen_dead(self) -> bool:
        """Whether this holder ran on this host and does no more (False when unsure)."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) > 1.0:
                return True
            return bool(process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False


@dataclass
class LeaseRow:
    """What the storage says of a study's lease, on its own clock (seconds)."""

    epoch: int = 0
    holder: Holder | None = None
    expires_at: float = 0.0
    now: float = 0.0

    def taken(self) -> bool:
        """Whether a living controller holds it."""
        return (
            self.holder is not None and self.now < self.expires_at and not self.holder.seen_dead()
        )


class LeaseStore(Protocol):
    """Where lease rows live: a table, or a file beside a journal."""

    def read(self, study: str) -> LeaseRow:
        """The row of a study, an empty one where there is none."""

    def swap(self, study: str, seen_epoch: int, epoch: int, holder: Holder | None) -> bool:
        """Write a new row if the epoch is still the one seen; whether it was."""


class Lease:
    """This controller's hold on a study."""

    def __init__(self, store: LeaseStore, study: str, epoch: int, holder: Holder) -> None:
        self._store = store
        self._study = study
        self.epoch = epoch
        self.holder = holder
        self._renewed = time.monotonic()

    @classmethod
    def acquire(cls, store: LeaseStore, study: str) -> Lease:
        """Take the lease; StudyHeld names the holder when somebody living has it."""
        row = store.read(study)
        if row.taken():
            assert row.holder is not None
            raise held_by(study, row.holder)
        me = Holder.me()
        if not store.swap(study, row.epoch, row.epoch + 1, me):
            winner = store.read(study).holder
            raise held_by(study, winner or me)
        return cls(store, study, row.epoch + 1, me)

    def due(self) -> bool:
        """Whether a third of the lease's time has passed since the last renewal."""
        return time.monotonic() - self._renewed > lease_seconds() / 3

    def renew(self) -> bool:
        """Extend the lease; False when another controller has taken it meanwhile."""
        if not self._store.swap(self._study, self.epoch, self.epoch, self.holder):
            return False
        self._renewed = time.monotonic()
        return True

    def held(self) -> bool:
        """Whether the storage still names this controller's epoch."""
        return self._store.read(self._study).epoch == self.epoch

    def release(self) -> None:
        """Give the lease back, keeping its epoch for the next holder to count on."""
        self._store.swap(self._study, self.epoch, self.epoch, None)


def held_by(study: str, holder: Holder) -> StudyHeld:
    """The error that names host, pid and since when."""
    return StudyHeld(
        f"study {study!r} is held by another controller: host {holder.host}, pid {holder.pid}, "
        f"since {holder.since}. Watch it with `autotune status {study}`; it ends with Ctrl-C there."
    )


def lease_store(storage: BaseStorage, journal: Path | None = None) -> LeaseStore:
    """The store that goes with a storage."""
    from optuna.storages import RDBStorage

    if isinstance(storage, RDBStorage):
        return TableLeases(storage.engine)
    assert journal is not None
    return FileLeases(journal.with_suffix(".lease"))


NOW = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch from clock_timestamp())",
    "mysql": "unix_timestamp(now(6))",
    "mariadb": "unix_timestamp(now(6))",
}


class TableLeases:
    """Leases in a table of their own, compared and set on the database's clock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._now = NOW[engine.dialect.name]
        self._create()

    def _execute(self, work: Callable[[Connection], Any]) -> Any:
        with self._engine.begin() as connection:
            return work(connection)

    def _create(self) -> None:
        """Make the table; of several that make it at once, one may be told that it stands."""
        from sqlalchemy.exc import IntegrityError, ProgrammingError

        try:
            self._execute(_create_table)
        except (IntegrityError, ProgrammingError):
            self._execute(_create_table)

    def read(self, study: str) -> LeaseRow:
        """The row of a study and the database's time."""
        from sqlalchemy import text

        query = text(
            f"SELECT epoch, holder, expires_at, {self._now} FROM autotune_lease "
            "WHERE study = :study"
        )

        def work(connection: Connection) -> LeaseRow:
            row = connection.execute(query, {"study": study}).fetchone()
            if row is None:
                return LeaseRow()
            holder = Holder(**json.loads(row[1])) if row[1] else None
            return LeaseRow(int(row[0]), holder, float(row[2]), float(row[3]))

        found: LeaseRow = self._execute(work)
        return found

    def swap(self, study: str, seen_epoch: int, epoch: int, holder: Holder | None) -> bool:
        """One conditional statement on a row that stands: the database decides who wins.

        An update that finds no row locks the gap where it would be under InnoDB, and two rivals
        that then insert into it deadlock; hence the row comes first, by itself.
        """
        from sqlalchemy import text

        if seen_epoch == 0:
            self._add_row(study)
        values = {
            "study": study,
            "seen": seen_epoch,
            "epoch": epoch,
            "holder": json.dumps(holder.__dict__) if holder else "",
            "length": lease_seconds() if holder else 0.0,
        }
        update = text(
            "UPDATE autotune_lease SET epoch = :epoch, holder = :holder, "
            f"expires_at = {self._now} + :length WHERE study = :study AND epoch = :seen"
        )
        return bool(self._execute(lambda connection: connection.execute(update, values).rowcount))

    def _add_row(self, study: str) -> None:
        """A study's row, held by nobody, unless it stands."""
        from sqlalchemy import text
        from sqlalchemy.exc import IntegrityError

        insert = text(
            "INSERT INTO autotune_lease (study, epoch, holder, expires_at) "
            "VALUES (:study, 0, '', 0.0)"
        )
        with suppress(IntegrityError):
            self._execute(lambda connection: connection.execute(insert, {"study": study}))


def _create_table(connection: Connection) -> None:
    from sqlalchemy import text

    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS autotune_lease (study VARCHAR(200) PRIMARY KEY, "
            "epoch INTEGER NOT NULL, holder TEXT NOT NULL, expires_at DOUBLE PRECISION NOT NULL)"
        )
    )


class FileLeases:
    """Leases in a JSON file under an exclusive lock, for journal storages."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            rows: dict[str, Any] = json.loads(file.read() or "{}")
            before = json.dumps(rows)
            yield rows
            if json.dumps(rows) != before:
                file.seek(0)
                file.truncate()
                json.dump(rows, file)

    @staticmethod
    def _row(rows: dict[str, Any], study: str) -> LeaseRow:
        row = rows.get(study)
        if row is None:
            return LeaseRow(now=time.time())
        holder = Holder(**row["holder"]) if row["holder"] else None
        return LeaseRow(row["epoch"], holder, row["expires_at"], time.time())

    def read(self, study: str) -> LeaseRow:
        """The row of a study and this host's time."""
        with self._locked() as rows:
            return self._row(rows, study)

    def swap(self, study: str, seen_epoch: int, epoch: int, holder: Holder | None) -> bool:
        """Read, compare and write under the file's lock."""
        with self._locked() as rows:
            if self._row(rows, study).epoch != seen_epoch:
                return False
            rows[study] = {
                "epoch": epoch,
                "holder": holder.__dict__ if holder else None,
                "expires_at": time.time() + lease_seconds() if holder else 0.0,
            }
            return True
