"""What a space opts in is told with and without: by best, report, compare and explain."""

from __future__ import annotations

import json

import pytest

from tests.controller.conftest import Cli, cli

__all__ = ["cli"]

TRAINER = """
import sys
batch, fast = int(sys.argv[1]), sys.argv[2] == "true"
for _ in range(6):
    print(f"tokens/s: {1000 * (3 if batch == 8 else 1) * (2 if fast else 1)}", flush=True)
"""
SPACE = """
name: opted
framework: command
command: ["python3", "opted.py", "{global_batch_size}", "{fast}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
contract: {global_batch_size: 4, seq_length: 128, search: [global_batch_size]}
parameters:
  global_batch_size: {values: [4, 8]}
  fast: {values: ["false", "true"]}
baseline: {global_batch_size: 4, fast: "false"}
trial: {min_steps: 3, time_limit_s: 60}
budget: {trials: 4, finalists: 1}
"""


def test_with_and_without(cli: Cli) -> None:
    cli.write("opted.py", TRAINER)
    cli.write("opted.yaml", SPACE)
    cli("run", "--space", "opted.yaml", "--study", "o")
    cli("run", "--space", "opted.yaml", "--study", "base", "--trials", "1")
    best = cli.json("best", "o")
    assert best["params"] == {"global_batch_size": 8, "fast": "true"}
    assert best["without_opt_ins"]["params"] == {"global_batch_size": 4, "fast": "true"}

    trials = cli.json("status", "o")["trials"]
    final = [t["params"] for t in trials if t["kind"] == "finalist"]
    assert best["without_opt_ins"]["params"] in final

    compared = cli.json("compare", "base", "o")
    assert compared["gain"]["value"] == pytest.approx(6.0)
    assert compared["without_opt_ins"]["gain"]["value"] == pytest.approx(2.0)
    assert "Without what the spaces opt in" in cli("compare", "base", "o").stdout
    alike = cli.json("compare", "base", "base")
    assert alike["without_opt_ins"] is None

    told = cli("explain", "o", "--yes").stdout
    assert "4 -> 8 (opted in)" in told and "false -> true (opted in)" not in told
    assert "The best that changes nothing opted in" in told
    page = cli("report", "o", "--format", "md", "-o", "-").stdout
    assert "global_batch_size = 8 (opted in)" in page
    assert "The space lets global_batch_size change; without that" in page
    page = json.loads(cli("report", "o", "--format", "json", "-o", "-").stdout)
    assert page["opted_in"] == ["global_batch_size"]
