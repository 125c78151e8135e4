"""Copies and upgrades of whole storages, with a backup before anything is changed."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path

from autotune.errors import BadInput
from autotune.study.storage import (
    close_storage,
    open_storage,
    redact_url,
    sqlite_path,
    storage_errors,
)


def backup(url: str) -> Path:
    """A consistent copy of a SQLite file or a journal beside it; the copy's path.

    BadInput for servers: their own tools make the backup.
    """
    path = sqlite_path(url)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    if path is not None:
        copy = path.with_name(f"{path.name}.backup-{stamp}")
        with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
            source.backup(target)
        source.close()
        target.close()
    elif url.startswith("journal://"):
        path = Path(url.removeprefix("journal://"))
        copy = path.with_name(f"{path.name}.backup-{stamp}")
        shutil.copyfile(path, copy)
    else:
        raise BadInput(
            f"{redact_url(url)}: make a backup with the server's own tool, then --no-backup"
        )
    copy.chmod(0o600)
    return copy


def upgrade(url: str, *, with_backup: bool = True) -> Path | None:
    """Bring a storage to the schema of the Optuna installed here; the backup's path."""
    from optuna.storages import RDBStorage

    copy = backup(url) if with_backup else None
    if url.startswith("journal://"):
        return copy
    with storage_errors(url):
        storage = RDBStorage(url, skip_compatibility_check=True)
        storage.upgrade()
        close_storage(storage)
    return copy


def copy_studies(source: str, target: str, names: list[str] | None = None) -> list[str]:
    """Copy studies from one storage into another; BadInput when a name is taken there."""
    import optuna

    old, new = open_storage(source), open_storage(target)
    with storage_errors(target):
        known = [study.study_name for study in old.get_all_studies()]
        wanted = names or known
        taken = {study.study_name for study in new.get_all_studies()}
        for name in wanted:
            if name not in known:
                raise BadInput.unknown("study", name, known, where=redact_url(source))
            if name in taken:
                raise BadInput(f"{redact_url(target)} already holds a study named {name!r}")
        for name in wanted:
            optuna.copy_study(from_study_name=name, from_storage=old, to_storage=new)
    close_storage(old)
    close_storage(new)
    return wanted
