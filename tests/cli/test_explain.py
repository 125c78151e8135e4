"""`autotune explain`: the measured ladder, one trial, and what was skipped."""

from __future__ import annotations

import math

import pytest

from tests.controller.conftest import Cli, cli

__all__ = ["cli"]

TRAINER = """
import sys
fast, wide, odd = (word.lower() == "true" for word in sys.argv[1:])
if odd and not wide:
    sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
rate = 1000 * (2 if fast else 1) * (1.5 if wide else 1) * (1.1 if odd else 1)
for _ in range(6):
    print(f"tokens/s: {rate}", flush=True)
"""
SPACE = """
name: steps
framework: command
command: ["python3", "steps.py", "{fast}", "{wide}", "{odd}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters:
  fast: {values: [false, true]}
  wide: {values: [false, true]}
  odd: {values: [false, true]}
baseline: {fast: false, wide: false, odd: false}
trial: {min_steps: 3, time_limit_s: 60}
budget: {trials: 8, finalists: 0}
"""


@pytest.fixture
def searched(cli: Cli) -> Cli:
    cli.write("steps.py", TRAINER)
    cli.write("steps.yaml", SPACE)
    cli("run", "--space", "steps.yaml", "--study", "s", "--sampler", "grid")
    return cli


def test_every_rung_is_measured_and_the_gains_multiply_to_the_whole(searched: Cli) -> None:
    before = searched.json("status", "s")["trials"]
    rungs = searched.json("explain", "s", "--yes")
    steps = [rung for rung in rungs if rung["role"] == "step"]
    assert [len(rung["changed"]) for rung in steps] == [1, 1, 1]
    assert all(rung["objective"] for rung in steps), "what failed in the search is no rung"
    whole = math.prod(rung["gain"]["value"] for rung in steps if rung["gain"])
    assert steps[-1]["objective"]["value"] == pytest.approx(3300)
    assert whole == pytest.approx(3.3)
    alone = {rung["changed"][0]: rung for rung in rungs if rung["role"] == "without"}
    assert alone["fast"]["gain"]["value"] == pytest.approx(2.0)
    assert alone["odd"]["gain"]["value"] == pytest.approx(1.1)
    assert alone["wide"]["gain"] is None and "oom_gpu" in alone["wide"]["failure"]
    after = searched.json("status", "s")["trials"]
    assert searched.json("explain", "s") == rungs
    assert len(searched.json("status", "s")["trials"]) == len(after) >= len(before)


def test_the_budget_is_told_and_nobody_is_run_unasked(cli: Cli) -> None:
    cli.write("steps.py", TRAINER)
    cli.write("steps.yaml", SPACE)
    cli("run", "--space", "steps.yaml", "--study", "s", "--sampler", "random", "--trials", "5")
    count = len(cli.json("status", "s")["trials"])
    refused = cli("explain", "s", expect=None)
    if refused.returncode == 0:
        pytest.skip("all rungs were measured by the search")
    assert refused.returncode == 2
    assert "GPU-hours" in refused.stderr and "--yes" in refused.stderr
    assert len(cli.json("status", "s")["trials"]) == count
    cli("explain", "s", "--yes")
    kinds = [trial["kind"] for trial in cli.json("status", "s")["trials"]]
    assert "rung" in kinds[count:] and set(kinds[count:]) == {"rung"}


def test_one_trial_and_what_was_skipped(cli: Cli) -> None:
    cli.write("steps.py", TRAINER)
    cli.write("steps.yaml", SPACE)
    cli("run", "--space", "steps.yaml", "--study", "s", "--sampler", "grid", "--trials", "3")
    said = cli("explain", "s", "--trial", "0").stdout
    assert "the baseline, measured first" in said and "tokens/s" in said
    assert cli("explain", "s:0").stdout == said
    assert "STUDY:N" in cli("explain", "s:x", expect=2).stderr
    assert "5 of 8 legal configs were not run" in cli("explain", "s", "--skipped").stdout
    assert len(cli.json("explain", "s", "--skipped")) == 5
    cli("explain", "s", "--trial", "99", expect=2)


def test_nothing_to_explain(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "grid", "--trials", "1")
    assert "baseline is the winner" in cli("explain", "s", expect=2).stderr
