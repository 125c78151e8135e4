"""F01 to F04: the controller is killed at every point of a trial's story, and resumed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from subprocess import Popen

import pytest

from autotune.controller.failpoints import NAMES
from tests.controller.conftest import Cli
from tests.faults.conftest import assert_whole, check_invariants, folder_of
from tests.launchers.gangs import wait_until

RUN = ("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random")
Start = Callable[..., "Popen[str]"]


@pytest.mark.parametrize("place", NAMES)
def test_f01_to_f04_killed_at_a_failpoint(slow: Cli, started: Start, place: str) -> None:
    killed = started(*RUN, AUTOTUNE_FAILPOINT=f"{place}@3")
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    before = [trial["params"] for trial in slow.json("status", "s")["trials"]]
    slow("resume", "s")
    trials = check_invariants(slow, "s")
    assert_whole(trials)
    assert [trial["params"] for trial in trials][: len(before)] == before


def test_f03_two_deaths_in_a_row(slow: Cli, started: Start) -> None:
    started(*RUN, AUTOTUNE_FAILPOINT="after_spawn@2").communicate(timeout=120)
    again = started("resume", "s", AUTOTUNE_FAILPOINT="after_result_file@2")
    again.communicate(timeout=120)
    assert again.returncode == -signal.SIGKILL
    slow("resume", "s")
    assert_whole(check_invariants(slow, "s"))


def test_f02_a_gang_that_ended_unwatched_costs_what_it_ran(slow: Cli, started: Start) -> None:
    started(*RUN, AUTOTUNE_FAILPOINT="after_spawn@1").communicate(timeout=120)
    wait_until((folder_of(slow, "s") / "trials" / "0000" / "exit.0.json").exists)
    slow("resume", "s", "--trials", "1")
    (trial,) = slow.json("status", "s")["trials"]
    assert trial["outcome"] == "ok" and trial["gpu_seconds"] >= 8 * 0.05
