"""A study in a real MariaDB: run, killed, resumed, copied, checked; leases on its clock."""

from __future__ import annotations

import json
import time

import pytest

from autotune.errors import StudyHeld
from autotune.study.lease import Holder, Lease, TableLeases, lease_store
from autotune.study.paths import StudyPaths
from autotune.study.record import Study
from autotune.study.storage import open_storage
from tests.controller.conftest import Cli, cli, started
from tests.engines.mariadb import MariaDb, mariadb
from tests.faults.conftest import (
    SLOW_SPACE,
    SLOW_TRAINER,
    assert_whole,
    folder_of,
    leftovers,
    wait_for_trials,
)
from tests.faults.test_f13_f15_lease import race

__all__ = ["cli", "mariadb", "started"]


def test_f14_exactly_one_of_two_wins_on_mariadb(mariadb: MariaDb) -> None:
    race(mariadb.database("f14"), None, rivals=2)


def test_a_closed_study_keeps_no_connection(mariadb: MariaDb, tmp_path, monkeypatch) -> None:
    """A server has few, and what a garbage collector has not seen yet would hold them."""
    monkeypatch.setenv("AUTOTUNE_HOME", str(tmp_path))
    study = Study.create(StudyPaths.named("s"), "name: s", {}, mariadb.database("connections"))
    study.hold()
    assert mariadb.connections("connections") > 0
    study.close()
    bound = time.monotonic() + 30.0
    while mariadb.connections("connections") and time.monotonic() < bound:
        time.sleep(0.05)
    assert mariadb.connections("connections") == 0


def test_the_lease_expires_on_the_databases_clock(mariadb: MariaDb, monkeypatch) -> None:
    """A holder on another host cannot be seen dead: only the clock frees its study."""
    monkeypatch.setenv("AUTOTUNE_LEASE_S", "0.6")
    store = lease_store(open_storage(mariadb.database("clock")))
    assert isinstance(store, TableLeases)
    elsewhere = Holder("another-host", 1, 0.0, "then")
    assert store.swap("s", 0, 1, elsewhere)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    row = store.read("s")
    assert row.taken() and 0.0 < row.expires_at - row.now <= 0.6
    with pytest.raises(StudyHeld, match="another-host"):
        Lease.acquire(store, "s")
    time.sleep(0.7)
    lease = Lease.acquire(store, "s")
    assert lease.epoch == 2 and lease.held()
    assert not store.swap("s", 1, 1, elsewhere), "epoch 1 is fenced"


def test_a_study_is_killed_resumed_and_away_for_a_while(cli: Cli, started, mariadb) -> None:
    cli.write("slow.py", SLOW_TRAINER)
    cli.write("slow.yaml", SLOW_SPACE)
    url = cli.env["AUTOTUNE_STORAGE"] = mariadb.database("study")
    run = started("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random")
    wait_for_trials(cli, "s", 2)
    run.kill()
    run.communicate()
    resumed = started("resume", "s")
    wait_for_trials(cli, "s", 3)
    mariadb.stop()
    time.sleep(2.0)
    mariadb.start()
    _, said = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, said
    assert "answers again" in said and "canary-pw" not in said
    assert_whole(cli.json("status", "s")["trials"])
    folder = folder_of(cli, "s")
    assert leftovers(folder) == []
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"canary-pw" not in written

    sound = cli.json("storage", "check", url)
    assert sound["damage"] is None and sound["trials"] == {"s": 6}
    assert "canary-pw" not in json.dumps(sound)
    assert cli("storage", "upgrade", "--no-backup", url).stdout == "upgraded\n"
    said = cli("storage", "upgrade", url, expect=2).stderr
    assert "--no-backup" in said and "canary-pw" not in said
    copy = f"sqlite:///{cli.folder}/copy.db"
    assert cli("storage", "copy", url, copy).stdout == "s\n"
    assert cli.json("storage", "check", copy)["trials"] == {"s": 6}
    back = mariadb.database("back")
    assert cli("storage", "copy", copy, back).stdout == "s\n"
    assert cli.json("storage", "check", back)["trials"] == {"s": 6}
