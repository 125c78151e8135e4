"""F30, F31: a damaged database is rebuilt from the trials' files; an old one names its upgrade."""

from __future__ import annotations

import sqlite3

import alembic.command
from optuna.storages import RDBStorage

from autotune.study.storage import close_storage
from tests.controller.conftest import Cli
from tests.faults.conftest import assert_whole, check_invariants, folder_of

RUN = ("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random", "--trials", "3")


def test_f30_a_damaged_database_is_kept_and_rebuilt(slow: Cli) -> None:
    slow(*RUN)
    before = slow.json("status", "s")["trials"]
    folder = folder_of(slow, "s")
    for side in folder.glob("study.db-*"):
        side.unlink()
    with (folder / "study.db").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 8192)
    slow("storage", "check", "s", expect=3)
    said = slow("resume", "s", "--trials", "5").stderr
    assert "damaged" in said
    after = check_invariants(slow, "s")
    assert [t["params"] for t in after[:3]] == [t["params"] for t in before]
    assert [t["tokens_per_s"] for t in after[:3]] == [t["tokens_per_s"] for t in before]
    assert len(after) == 5 and list(folder.glob("study.db.damaged-*"))


def test_f30_a_database_that_is_gone_is_rebuilt_too(slow: Cli) -> None:
    slow(*RUN)
    folder = folder_of(slow, "s")
    for path in folder.glob("study.db*"):
        path.rename(path.with_name("lost-" + path.name))
    slow("storage", "repair", "s")
    assert len(check_invariants(slow, "s")) == 3


def test_f31_an_older_schema_names_the_upgrade_and_makes_a_backup(slow: Cli) -> None:
    """Optuna's own migrations take the file back to the schema of its version 3.0."""
    slow(*RUN)
    database = folder_of(slow, "s") / "study.db"
    with sqlite3.connect(database) as connection:  # the name that Optuna's migrations know it by
        connection.execute("CREATE INDEX IF NOT EXISTS trials_study_id_key ON trials (study_id)")
    connection.close()
    older = RDBStorage(f"sqlite:///{database}")
    alembic.command.downgrade(older._version_manager._create_alembic_config(), "v3.0.0.d")
    close_storage(older)
    said = slow("resume", "s", expect=2).stderr
    assert f"autotune storage upgrade sqlite:///{database}" in said
    slow("storage", "upgrade", f"sqlite:///{database}")
    (backup,) = database.parent.glob("study.db.backup-*")
    with sqlite3.connect(backup) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("v3.0.0.d",)]
    connection.close()
    slow("resume", "s", "--trials", "4")
    assert_whole(check_invariants(slow, "s"), 4)
