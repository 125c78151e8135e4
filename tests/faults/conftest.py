"""The three invariants that hold after every row of the fault matrix, and a study to break."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotune.launchers import host
from tests.controller.conftest import Cli, cli, started

__all__ = ["cli", "started"]

SLOW_TRAINER = """
import sys, time
batch, mode = int(sys.argv[1]), sys.argv[2]
for _ in range(8):
    time.sleep(float(sys.argv[3]))
    print(f"tokens/s: {1000 * batch + (mode == 'b')}", flush=True)
"""

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


def tokens_of(folder: Path) -> set[str]:
    """The token of every gang that was ever started."""
    found = set()
    for path in folder.glob("trials/*/gang.json"):
        found.add(str(json.loads(path.read_text())["token"]))
    return found


def leftovers(folder: Path, within_s: float = 10.0) -> list[int]:
    """Processes that still carry a token of this study, after a short wait."""
    deadline = time.monotonic() + within_s
    while True:
        alive = [
            pid for token in tokens_of(folder) for pid, _ in host.marked(f"AUTOTUNE_TOKEN={token}")
        ]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.1)


def check_invariants(cli: Cli, study: str) -> list[dict[str, object]]:
    """No process left, every trial told once, the storage sound; the study's trials."""
    folder = folder_of(cli, study)
    assert leftovers(folder) == []
    database = folder / "study.db"
    if database.exists():
        with sqlite3.connect(database) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            results = connection.execute(
                "SELECT trial_id, count(*) FROM trial_user_attributes WHERE key = 'result' "
                "GROUP BY trial_id"
            ).fetchall()
        connection.close()
        assert all(count == 1 for _, count in results)
    trials: list[dict[str, object]] = cli.json("status", study)["trials"]
    told = {trial["number"] for trial in trials if trial["outcome"] is not None}
    for path in folder.glob("trials/*/result.json"):
        assert json.loads(path.read_text())["number"] in told, f"{path} was never told"
    return trials


@pytest.fixture
def slow(cli: Cli) -> Iterator[Cli]:
    """A study of six trials of some 0.4 s each."""
    cli.write("slow.py", SLOW_TRAINER)
    cli.write("slow.yaml", SLOW_SPACE)
    yield cli
    for folder in (Path(cli.env["AUTOTUNE_HOME"]) / "studies").glob("*"):
        assert leftovers(folder) == []


def assert_whole(trials: list[dict[str, object]], count: int = 6) -> None:
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
