"""The three invariants that hold after every row of the fault matrix, and a study to break."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autotune.cli.views import trial_json
from tests.controller.conftest import Cli, cli, started

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "bench"))

from study_invariants import PROOF, examine, left_alive

__all__ = ["cli", "started"]

SLOW_TRAINER = (
    PROOF
    + """
import sys
batch, mode = int(sys.argv[1]), sys.argv[2]
held = 0
while os.path.exists("hold"):
    time.sleep(0.02)
    alive()
    held += 1
    if held == 50:
        print("held up", flush=True)
for _ in range(8):
    time.sleep(float(sys.argv[3]))
    alive()
    print(f"tokens/s: {1000 * batch + (mode == 'b')}", flush=True)
"""
)

SLOW_SPACE = """
name: slow
framework: command
command: ["python3", "slow.py", "{batch}", "{mode}", "0.05"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters:
  batch: {values: [1, 2, 3]}
  mode: {values: [a, b]}
baseline: {batch: 1, mode: a}
trial: {min_steps: 3, time_limit_s: 60, stop_early: false}
budget: {trials: 6, finalists: 0}
"""


def folder_of(cli: Cli, study: str) -> Path:
    return Path(cli.env["AUTOTUNE_HOME"]) / "studies" / study


def leftovers(folder: Path, within_s: float = 10.0) -> list[int]:
    """Processes of this study's gangs that still live after a short wait."""
    return left_alive(folder, set(), within_s)


def check_invariants(cli: Cli, study: str) -> list[dict[str, Any]]:
    """One gang and one result a trial, no process left, nothing lost, the storage sound.

    The study's trials as `status --json` gives them.
    """
    found = examine(folder_of(cli, study), cli.env.get("AUTOTUNE_STORAGE"))
    assert found.wrong == []
    return [trial_json(record) for record in found.records]


@pytest.fixture
def slow(cli: Cli) -> Iterator[Cli]:
    """A study of six trials of some 0.4 s each, or as long as a file `hold` lies beside it."""
    cli.write("slow.py", SLOW_TRAINER)
    cli.write("slow.yaml", SLOW_SPACE)
    yield cli
    for folder in (Path(cli.env["AUTOTUNE_HOME"]) / "studies").glob("*"):
        assert leftovers(folder) == []


def assert_whole(trials: list[dict[str, Any]], count: int = 6) -> None:
    """Every config once, all ok, numbered without a gap."""
    assert [trial["number"] for trial in trials] == list(range(count))
    assert {trial["outcome"] for trial in trials} == {"ok"}
    assert len({json.dumps(trial["params"]) for trial in trials}) == count


def wait_for_trials(cli: Cli, study: str, count: int, within_s: float = 60.0) -> None:
    """Until so many trial folders exist."""
    deadline = time.monotonic() + within_s
    while len(list(folder_of(cli, study).glob("trials/*/gang.json"))) < count:
        assert time.monotonic() < deadline, "the trials did not start"
        time.sleep(0.02)
