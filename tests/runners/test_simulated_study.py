"""The main job on the simulated cluster, as the quickstart runs it, and its regret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.frameworks import get_framework
from autotune.space import build_legal_set, load_space
from tests.controller.conftest import Cli, cli

__all__ = ["cli"]

BENCH = Path(__file__).parents[2] / "scripts" / "bench" / "simulated_optimum.py"


def bench(cli: Cli, *words: str) -> list[dict]:
    done = subprocess.run(
        [sys.executable, str(BENCH), *words, "--json"],
        capture_output=True, text=True, timeout=120, env=cli.env, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_simulated_study_is_legal_says_so_and_gains(cli: Cli) -> None:
    words = ("--study", "s", "--trials", "8", "--simulate", "--simulation-seed", "2")
    cli("run", "--space", "llama8b_tp_pp", *words)
    space = load_space("llama8b_tp_pp")
    legal = build_legal_set(space, get_framework("megatron").rules(space))
    status = cli.json("status", "s")
    assert status["simulated"] is True
    searched = [t["params"] for t in status["trials"] if t["kind"] in ("baseline", "search")]
    found = [legal.find({k: v for k, v in p.items() if v is not None}) for p in searched]
    assert None not in found and len(set(found)) == len(found)
    assert found[0] == legal.baseline
    assert cli.json("best", "s")["gain"] >= 1.0
    row = bench(cli, "--study", "s")[0]
    assert row["seed"] == 2 and 0.0 <= row["regret"] < 0.5
    cli("export", "s", "--format", "megatron", "-o", "winner")
    arguments = json.loads((cli.folder / "winner" / "megatron_args.json").read_text())
    assert "--tensor-model-parallel-size" in arguments
    assert not [item for item in arguments if item.startswith("--sim-")]
    assert "SIMULATED" in (cli.folder / "winner" / "README.md").read_text()


def test_the_exhaustive_best_is_the_best(cli: Cli) -> None:
    first, second = bench(cli, "--space", "llama8b_tp_pp", "--seeds", "2")
    for row in (first, second):
        assert row["best_step_time_s"] <= row["baseline_step_time_s"]
        assert 0 < row["within_2_percent"] <= row["fit"] <= row["legal"]
    assert first["best_step_time_s"] != second["best_step_time_s"]


def test_the_trainer_starts_without_what_it_does_not_need() -> None:
    code = "import sys; import simulated.train; print(sorted(sys.modules))"
    runners = str(BENCH.parents[2] / "runners")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": runners},
    )  # fmt: skip
    loaded = set(done.stdout.replace("'", "").strip("[]\n").split(", "))
    assert not loaded & {"scipy", "torch", "optuna", "typer", "rich"}
