"""F13 to F15: one controller a study, whoever comes second, late, or at the same moment."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen

import psutil

from autotune.errors import StudyHeld
from autotune.study.lease import Lease, LeaseStore, lease_store
from autotune.study.storage import close_storage, open_storage
from tests.controller.conftest import Cli
from tests.engines.postgres import Postgres, postgres
from tests.faults.conftest import assert_whole, check_invariants, folder_of

__all__ = ["postgres"]
RUN = ("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random")
Start = Callable[..., "Popen[str]"]


def wait_until_stopped(controller: Popen[str]) -> None:
    """Until a failpoint has stopped it."""
    deadline = time.monotonic() + 60
    while psutil.Process(controller.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_f13_a_second_controller_exits_75_and_names_the_holder(slow: Cli, started: Start) -> None:
    first = started(*RUN, AUTOTUNE_FAILPOINT="after_handle:stop")
    wait_until_stopped(first)
    said = slow("resume", "s", expect=75).stderr
    assert f"pid {first.pid}" in said and "host" in said and "since" in said
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)
    assert_whole(check_invariants(slow, "s"))


def race(url: str, journal: Path | None, rivals: int, studies: int = 50) -> None:
    """Let several threads, each with a storage of its own, reach for each study's lease at once.

    Of each study one has it then, and every other was told who holds it, nothing else.
    """
    storages = [open_storage(url) for _ in range(rivals)]
    gate = threading.Barrier(rivals)

    def attempts(store: LeaseStore) -> list[str]:
        told = []
        for number in range(studies):
            gate.wait(timeout=60)
            try:
                told.append(f"epoch {Lease.acquire(store, f'study-{number}').epoch}")
            except StudyHeld:
                told.append("held")
            except Exception as error:
                told.append(repr(error))
        return told

    with ThreadPoolExecutor(rivals) as pool:
        stores = [lease_store(storage, journal) for storage in storages]
        by_study = list(zip(*pool.map(attempts, stores), strict=True))
    for storage in storages:
        close_storage(storage)
    expected = ["epoch 1", *["held"] * (rivals - 1)]
    assert [sorted(told) for told in by_study] == [expected] * studies


def test_f14_exactly_one_of_two_wins_on_postgresql(postgres: Postgres) -> None:
    race(postgres.database("f14"), None, rivals=2)


def test_f14_and_on_sqlite_and_a_journal(tmp_path: Path) -> None:
    race(f"sqlite:///{tmp_path}/study.db", None, rivals=3)
    race(f"journal://{tmp_path}/study.log", tmp_path / "j", rivals=3)


def test_f15_a_stalled_controller_is_fenced(slow: Cli, started: Start) -> None:
    slow.env["AUTOTUNE_LEASE_S"] = "1"
    stalled = started(*RUN, AUTOTUNE_FAILPOINT="after_judging:stop")
    folder = folder_of(slow, "s")
    wait_until_stopped(stalled)
    time.sleep(1.2)
    slow("resume", "s")
    trials = check_invariants(slow, "s")
    assert_whole(trials)
    stalled.send_signal(signal.SIGCONT)
    _, said = stalled.communicate(timeout=60)
    assert stalled.returncode == 75 and "took over" in said and "Traceback" not in said
    late = json.loads(next(folder.glob("trials/0000/late.*.json")).read_text())
    assert late["late"] and late["outcome"] == "ok"
    assert check_invariants(slow, "s") == trials
