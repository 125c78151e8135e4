"""A trial that learns something else than the baseline is found out, however the baseline fares."""

from __future__ import annotations

from tests.controller.conftest import Cli

TRAINER = """
import pathlib, sys, time
mode, ends = sys.argv[1:]
said = pathlib.Path("said")
while mode == "other" and not said.exists():
    time.sleep(0.01)
for step in range(8):
    print(f"loss: {(4 if mode == 'other' else 9) - step / 10} tokens/s: 1000", flush=True)
    if mode == "same" and step == 4:
        said.touch()
        sys.exit(1) if ends == mode else time.sleep(1.5)
"""
SPACE = """
name: parity
framework: command
command: [python3, learner.py, "{mode}", "ENDS"]
metric: {pattern: 'loss: (?P<loss>[0-9.]+) tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters: {mode: {values: [same, other]}}
baseline: {mode: same}
trial: {min_steps: 3, time_limit_s: 60, stop_early: false}
budget: {trials: 2, finalists: 0}
"""


def test_losses_are_compared_with_those_of_a_baseline_that_still_runs(cli: Cli) -> None:
    cli.write("learner.py", TRAINER)
    cli.write("parity.yaml", SPACE.replace("ENDS", "never"))
    cli("run", "--space", "parity.yaml", "--study", "s", "--parallel", "2")
    baseline, other = cli.json("status", "s")["trials"]
    assert other["gpu_seconds"] < baseline["gpu_seconds"]
    assert any(note.startswith("loss parity") for note in other["notes"])


def test_losses_of_a_baseline_that_failed_later_count(cli: Cli) -> None:
    cli.write("learner.py", TRAINER)
    cli.write("parity.yaml", SPACE.replace("ENDS", "same"))
    cli("run", "--space", "parity.yaml", "--study", "s", expect=None)
    baseline, other = cli.json("status", "s")["trials"]
    assert (baseline["outcome"], other["outcome"]) == ("crash", "ok")
    assert any(note.startswith("loss parity") for note in other["notes"])
