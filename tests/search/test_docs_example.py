"""docs/search.md: its script runs as it stands, and its table names every kind of reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import optuna

from autotune.cli.skipped import kinds

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "search.md").read_text()


def test_the_script_finds_the_best_without_an_illegal_or_a_repeated_trial() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    told: dict[str, Any] = {}
    exec(compile(script, "docs/search.md", "exec"), told)
    study, legal = told["study"], told["legal"]
    assert len(study.trials) == 12 and all(legal(trial.params) for trial in study.trials)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 12
    assert study.best_params == {"tp": 4, "mbs": 4, "recompute": "none"}


def test_every_kind_of_reason_is_told() -> None:
    rows = re.findall(r"^\| `([\w ]+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(kinds())
