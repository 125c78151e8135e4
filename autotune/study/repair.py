"""Brings a study back whose storage is damaged: from the trials' own files.

The damaged database is kept beside the new one. Every trial folder holds what was chosen
(``chosen.json``) and, once it ended, its result (``result.json``): what was measured is told
again, what was not runs again on resume.
"""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.errors import BadInput
from autotune.study.codec import record_from_json
from autotune.study.paths import StudyPaths, read_json
from autotune.study.record import Study
from autotune.study.storage import sqlite_path
from autotune.trial import Outcome, TrialRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.distributions import BaseDistribution

SIDE_FILES = ("-wal", "-shm")


def damage(path: Path) -> str | None:
    """What is wrong with a SQLite file; None when its integrity check passes."""
    if not path.is_file():
        return "it is missing"
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
            connection.execute("SELECT count(*) FROM studies, version_info").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == ["ok"] else "; ".join(found[:3])


def trials_on_disk(paths: StudyPaths) -> list[TrialRecord]:
    """Every trial its folders tell of, by number; the last attempt's word counts."""
    found: dict[int, TrialRecord] = {}
    for folder in sorted(paths.trials.glob("[0-9]*")):
        record = _record_in(folder)
        if record is not None and (record.finished or record.number not in found):
            found[record.number] = record
    return [found[number] for number in sorted(found)]


def _record_in(folder: Path) -> TrialRecord | None:
    for name in ("result.json", "chosen.json"):
        data = read_json(folder / name)
        if data is None:
            continue
        try:
            return record_from_json(data)
        except ValueError:
            continue
    return None


def repair(paths: StudyPaths, distributions: Mapping[str, BaseDistribution]) -> tuple[Study, Path]:
    """A study rebuilt into a new database; the study and where the damaged one is kept.

    BadInput when the study is not in a SQLite file of its own.
    """
    settings = read_json(paths.settings)
    if settings is None:
        raise BadInput(f"{paths.settings}: missing or damaged; nothing tells what the study was")
    path = sqlite_path(paths.storage_url(settings))
    if path is None:
        raise BadInput(
            f"study {paths.name!r} is in {settings.get('storage')}: restore a backup there"
        )
    kept = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    if path.exists():
        shutil.move(path, kept)
    for suffix in SIDE_FILES:
        side = Path(f"{path}{suffix}")
        if side.exists():
            shutil.move(side, f"{kept}{suffix}")
    study = Study(paths, settings, f"sqlite:///{path}")
    study.note("space", paths.space.read_text(encoding="utf-8"))
    study.note("settings", settings)
    for record in trials_on_disk(paths):
        _tell_again(study, record, distributions)
    return study, kept


def _tell_again(
    study: Study, record: TrialRecord, distributions: Mapping[str, BaseDistribution]
) -> None:
    """Create the trial under its own number, filling numbers whose folders are gone."""
    while True:
        added = study.add_like(record, distributions)
        if added.number == record.number:
            break
        lost = dataclasses.replace(
            added, outcome=Outcome.CANCELLED, outcome_reason="lost with the damaged storage"
        )
        study.tell(lost)
    if record.finished:
        study.tell(record)
