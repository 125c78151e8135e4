"""F21: exit 0 proves nothing; no measured step or an implausible figure never wins."""

from __future__ import annotations

import pytest

from tests.controller.conftest import Cli
from tests.faults.conftest import check_invariants

PROGRAM = """
import sys
for _ in range(6):
    print({"ok": "tokens/s: 100", "none": "hello", "zero": "tokens/s: 0",
           "mfu": "tokens/s: 900000 mfu: 1.7", "nan": "tokens/s: nan"}[sys.argv[1]])
"""
SPACE = """
name: validity
framework: command
command: ["python3", "program.py", "{mode}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.a-z]+)(?: mfu: (?P<mfu>[0-9.]+))?'}
parameters: {mode: {values: [ok, none, zero, mfu, nan]}}
baseline: {mode: ok}
trial: {min_steps: 3, time_limit_s: 60}
budget: {finalists: 0}
"""


@pytest.mark.parametrize("sampler", ["random"])
def test_f21_only_the_honest_run_may_win(cli: Cli, sampler: str) -> None:
    cli.write("program.py", PROGRAM)
    cli.write("space.yaml", SPACE)
    cli("run", "--space", "space.yaml", "--study", "s", "--sampler", sampler)
    found = {t["params"]["mode"]: t["outcome"] for t in check_invariants(cli, "s")}  # type: ignore[index]
    assert found.pop("ok") == "ok"
    assert "ok" not in found.values()
    assert cli.json("best", "s")["params"] == {"mode": "ok"}
