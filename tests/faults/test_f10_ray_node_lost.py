"""F10: a Ray node is lost in the middle of a trial; the config is not blamed."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import Popen
from typing import Any

import pytest

from tests.controller.conftest import Cli
from tests.faults.conftest import assert_whole, check_invariants
from tests.faults.ray_cluster import RUN, WORKER, attempt_running, head

__all__ = ["head"]
Start = Callable[..., "Popen[str]"]


@pytest.mark.slow
def test_f10_the_trial_runs_again_on_another_node(slow: Cli, started: Start, head: Any) -> None:
    hold = slow.write("hold", "")
    node = head.add_node(**WORKER)
    run = started(*RUN)
    attempt_running(slow, 1)
    head.remove_node(node, allow_graceful=False)
    head.add_node(**WORKER)
    attempt_running(slow, 2)
    hold.unlink()
    said = run.communicate(timeout=240)[1]
    assert run.returncode == 0, said
    assert "Ray node" in said and "trying again (1 of 2)" in said
    trials = check_invariants(slow, "s")
    assert_whole(trials)
    assert sorted(trial["attempt"] for trial in trials) == [1, 1, 1, 1, 1, 2]


@pytest.mark.slow
def test_f10_but_not_more_than_twice(slow: Cli, started: Start, head: Any) -> None:
    slow.write("hold", "")
    run = started(*RUN, "--trials", "1")
    for attempt in (1, 2, 3):
        node = head.add_node(**WORKER)
        attempt_running(slow, attempt)
        head.remove_node(node, allow_graceful=False)
    said = run.communicate(timeout=240)[1]
    assert run.returncode == 1, said
    (trial,) = check_invariants(slow, "s")
    assert (trial["outcome"], trial["attempt"]) == ("infra", 3)
