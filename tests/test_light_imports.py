"""`autotune --help` and the base package stay light: nobody pays for what they do not use."""

from __future__ import annotations

import subprocess
import sys

import pytest


def imported_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


HELP = """
sys.argv = ["autotune", "--help"]
from autotune.cli import main
try:
    main()
except SystemExit:
    pass
"""


def test_help_imports_neither_pydantic_nor_numpy() -> None:
    heavy = {"pydantic", "numpy", "optuna", "scipy", "plotly", "torch", "ray", "rich", "yaml"}
    assert not imported_by(HELP) & heavy


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("autotune", {"numpy", "pydantic", "optuna"}),
        ("autotune.space", {"optuna", "torch", "ray", "plotly", "scipy"}),
        ("autotune.controller", {"torch", "ray", "plotly"}),
        ("autotune.launchers.supervisor", {"numpy", "pydantic", "psutil", "optuna"}),
    ],
)
def test_modules_import_only_what_is_theirs(module: str, never: set[str]) -> None:
    assert not imported_by(f"import {module}") & never
