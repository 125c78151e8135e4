"""F27: Ctrl-C once drains, twice kills; SIGTERM kills; SIGHUP drains; the study goes on after."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from subprocess import Popen

import pytest

from tests.controller.conftest import Cli
from tests.faults.conftest import assert_whole, check_invariants, wait_for_trials

RUN = ("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random")


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ((signal.SIGINT,), 130),
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGTERM,), 143),
        ((signal.SIGHUP,), 143),
    ],
)
def test_f27_interrupted_and_resumed(
    slow: Cli, started: Callable[..., Popen[str]], signals: tuple[signal.Signals, ...], code: int
) -> None:
    run = started(*RUN)
    wait_for_trials(slow, "s", 2)
    for number in signals:
        run.send_signal(number)
        time.sleep(0.15)
    _, said = run.communicate(timeout=120)
    assert run.returncode == code, said
    assert "Traceback" not in said
    check_invariants(slow, "s")
    slow("resume", "s")
    assert_whole(check_invariants(slow, "s"))


def test_f27_a_drain_lets_the_running_trial_finish(
    slow: Cli, started: Callable[..., Popen[str]]
) -> None:
    run = started(*RUN)
    wait_for_trials(slow, "s", 2)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=120)
    assert {trial["outcome"] for trial in check_invariants(slow, "s")} == {"ok"}
