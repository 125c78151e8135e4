"""A NeMo study under a real Slurm, from sbatch to the winner: the stand-in prints NeMo's format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.controller.conftest import Cli, cli
from tests.launchers.conftest import engine_options

__all__ = ["cli", "engine_options"]

SETTINGS = (
    "runner=nemo_lora/stand_in.py",
    "trial.steps=6",
    "trial.time_limit_s=300",
    "parameters.tensor_model_parallel_size.values=[4]",
    "parameters.pipeline_model_parallel_size.values=[1]",
    "parameters.micro_batch_size.values=[1, 4]",
    "parameters.recompute_granularity.values=[none]",
    "parameters.sequence_parallel.values=[false]",
    "budget.trials=2",
    "budget.finalists=0",
)
"""The published baseline, and a micro batch of 4, which no V100 of 16 GB holds."""


@pytest.fixture
def slurm(engine_options: Callable[[str], Any]) -> dict[str, Any]:
    """Options for a Slurm of this machine."""
    found: dict[str, Any] = engine_options("slurm")
    return found


def test_bars_are_read_and_a_vanished_rank_is_an_oom(slurm: dict[str, Any], cli: Cli) -> None:
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    options = [
        word for name, value in slurm.items() for word in ("--launcher-option", f"{name}={value}")
    ]
    cli(
        "run", "--space", "llama7b_lora_nemo", "--study", "n", "--launcher", "slurm",
        *options, *words,
    )  # fmt: skip
    trials = cli.json("status", "n")["trials"]
    base, out = trials[0], trials[1]
    assert base["outcome"] == "ok"
    assert base["step_time_s"] == pytest.approx(68.70, rel=0.03)

    assert (out["params"]["micro_batch_size"], out["outcome"]) == (4, "oom_gpu")
    assert any("CUDA out of memory" in line for line in out["evidence"])
    folder = cli.folder.parent / "home" / "studies" / "n" / "trials" / "0000"
    assert b"train_step_timing in s=" in (folder / "logs" / "rank0.000.log").read_bytes()
    assert (folder / "job.sbatch").is_file()
    assert cli.json("best", "n")["params"]["micro_batch_size"] == 1
