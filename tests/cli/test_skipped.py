"""`autotune explain --skipped` and `--rules`: why a config never ran, what failures taught."""

from __future__ import annotations

import json

import pytest

from tests.controller.conftest import Cli, cli

__all__ = ["cli"]

TRAINER = """
import sys
micro, mode, full = int(sys.argv[1]), sys.argv[2], set(sys.argv[3].split(","))
if sys.argv[1] in full:
    sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
for _ in range(6):
    print(f"tokens/s: {1000 * micro}", flush=True)
"""
SPACE = """
name: micro
framework: command
command: ["python3", "micro.py", "{micro_batch_size}", "{mode}", FULL]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters:
  micro_batch_size: {values: [1, 2, 4, 8]}
  mode: {values: [a, b]}
constraints:
  - rule: mode == 'a' or micro_batch_size == 1
    reason: b is for one at a time
baseline: {micro_batch_size: 1, mode: a}
trial: {min_steps: 3, time_limit_s: 60}
budget: {trials: 20, finalists: 0}
"""


def searched(cli: Cli, full: str, *words: str) -> Cli:
    cli.write("micro.py", TRAINER)
    cli.write("micro.yaml", SPACE.replace("FULL", f'"{full}"'))
    cli("run", "--space", "micro.yaml", "--study", "s", *words)
    return cli


def test_a_config_that_a_rule_speaks_against_is_run_as_an_audit(cli: Cli) -> None:
    searched(cli, "2,4,8")
    trials = cli.json("status", "s")["trials"]
    audits = [trial["number"] for trial in trials if trial["kind"] == "audit"]
    assert audits and {trials[n]["outcome"] for n in audits} == {"oom_gpu"}
    assert "audit of what trial" in trials[audits[0]]["chosen_because"]
    (rule,) = [r for r in cli.json("explain", "s", "--rules") if r["audited_by"] is not None]
    assert rule["audited_by"] == audits[0] and rule["active"] and rule["rules_out"] >= 1
    assert f"audited: trial {audits[0]}" in cli("explain", "s", "--rules").stdout


def test_a_run_inside_a_rule_withdraws_it_and_that_is_told(cli: Cli) -> None:
    searched(cli, "2")
    trials = cli.json("status", "s")["trials"]
    refuted = [r for r in cli.json("explain", "s", "--rules") if r["withdrawn_by"] is not None]
    assert len(refuted) == 1 and not refuted[0]["active"]
    assert trials[refuted[0]["withdrawn_by"]]["params"]["micro_batch_size"] in (4, 8)
    assert trials[refuted[0]["witness"]]["params"]["micro_batch_size"] == 2
    assert "withdrawn: trial" in cli("explain", "s", "--skipped").stdout


def test_every_point_is_accounted_for(cli: Cli) -> None:
    searched(cli, "8", "--sampler", "grid", "--trials", "2")
    rows = cli.json("explain", "s", "--skipped")
    illegal = [row for row in rows if row["kind"] == "illegal"]
    assert [(row["count"], row["reason"]) for row in illegal] == [(3, "b is for one at a time")]
    assert len(rows) - len(illegal) == 3 and sum(row["count"] for row in illegal) + 5 == 8
    assert cli.json("explain", "s", "--skipped", "--kind", "not reached") == rows[len(illegal) :]
    page = cli.json("explain", "s", "--skipped", "--offset", "2", "--limit", "1")
    assert page == rows[2:3]
    assert cli.json("explain", "s", "--kind", "dominated") == []
    said = cli("explain", "s", "--skipped", "--limit", "1").stdout
    assert "3 of 8 points are illegal" in said and "3 of 5 legal configs" in said
    lines = cli("explain", "s", "--kind", "illegal").stdout.splitlines()
    assert len(lines) == 1 and lines[0].endswith("space: b is for one at a time")


@pytest.mark.parametrize("words", [("--kind", "lost"), ("--skipped", "--limit", "-1")])
def test_wrong_questions_are_refused(cli: Cli, words: tuple[str, ...]) -> None:
    searched(cli, "8", "--sampler", "grid", "--trials", "1")
    said = cli("explain", "s", *words, expect=2).stderr
    assert "Known: dominated, illegal" in said or "--limit" in said


def test_rules_are_told_whatever_sampler_chose(cli: Cli) -> None:
    searched(cli, "4,8", "--sampler", "grid")
    rules = json.loads(cli("explain", "s", "--rules", "--json").stdout)
    assert [rule["kind"] for rule in rules] == ["memory"] and rules[0]["rules_out"] == 1
