"""F27: Ctrl-C once drains, twice kills; SIGTERM kills; SIGHUP drains; the study goes on after."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.controller.conftest import Cli
from tests.faults.conftest import assert_whole, check_invariants, wait_for_trials

RUN = ("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random")
Start = Callable[..., "Popen[str]"]


def interrupt(slow: Cli, started: Start, *signals: signal.Signals) -> tuple[Popen[str], Path]:
    """A controller whose first trial is held up when the signals come; and what holds it."""
    hold = slow.write("hold", "")
    run = started(*RUN)
    wait_for_trials(slow, "s", 1)
    for number in signals:
        run.send_signal(number)
        time.sleep(0.15)
    return run, hold


def ended(run: Popen[str], slow: Cli, code: int, told: str = "") -> list[dict[str, Any]]:
    """The trials that stand once the controller has left, as it should, and told so."""
    _, said = run.communicate(timeout=120)
    assert run.returncode == code, said
    assert "Traceback" not in said and told in said, said
    return check_invariants(slow, "s")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_f27_a_drain_lets_the_running_trial_finish(
    slow: Cli, started: Start, number: signal.Signals, code: int
) -> None:
    run, hold = interrupt(slow, started, number)
    time.sleep(1.0)
    assert run.poll() is None, "it waits for the trial"
    hold.unlink()
    told = "waits for what runs; Ctrl-C again ends it at once"
    assert [trial["outcome"] for trial in ended(run, slow, code, told)] == ["ok"]
    slow("resume", "s")
    trials = check_invariants(slow, "s")
    assert_whole(trials)
    assert {trial["attempt"] for trial in trials} == {1}


@pytest.mark.parametrize(
    ("signals", "code"), [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM,), 143)]
)
def test_f27_a_killed_trial_runs_again_on_resume(
    slow: Cli, started: Start, signals: tuple[signal.Signals, ...], code: int
) -> None:
    run, hold = interrupt(slow, started, *signals)
    assert [trial["outcome"] for trial in ended(run, slow, code)] == [None]
    hold.unlink()
    slow("resume", "s")
    trials = check_invariants(slow, "s")
    assert_whole(trials)
    assert [trial["attempt"] for trial in trials] == [2, 1, 1, 1, 1, 1]


def test_f27_a_controller_that_dies_while_it_kills_has_its_trial_run_again(
    slow: Cli, started: Start
) -> None:
    """It had asked for the gang's end and could not say so any more: nobody chose to lose that."""
    hold = slow.write("hold", "")
    run = started(*RUN)
    wait_for_trials(slow, "s", 1)
    (trial_dir,) = Path(slow.env["AUTOTUNE_HOME"]).glob("studies/s/trials/0000")
    while not (trial_dir / "alive.txt").exists():
        time.sleep(0.02)
    run.kill()
    run.communicate()
    (trial_dir / "cancel").write_text('{"grace_s": 0}')
    hold.unlink()
    slow("resume", "s")
    trials = check_invariants(slow, "s")
    assert_whole(trials)
    assert [trial["attempt"] for trial in trials] == [2, 1, 1, 1, 1, 1]
