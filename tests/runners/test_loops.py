"""The whole loop over real programs on this machine: choose, render, launch, read, judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def _run(home: Path, study: str, *arguments: str) -> dict[str, Any]:
    """`autotune run`, then the study's status; no GPU is looked for."""
    env = {**os.environ, "AUTOTUNE_HOME": str(home), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "autotune"]
    ran = subprocess.run(
        [*command, "run", "--study", study, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    status = subprocess.run(
        [*command, "status", study, "--json"], env=env, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(status.stdout)
    return found


def test_nemos_format_and_its_oom_through_the_whole_loop(tmp_path: Path) -> None:
    status = _run(
        tmp_path, "nemo", "--space", "llama7b_lora_nemo", "--launcher", "local",
        "--set", "runner=nemo_lora/stand_in.py", "--set", "budget.trials=8",
        "--set", "budget.finalists=0", "--set", "trial.steps=8", "--set", "trial.hang_floor_s=5",
    )  # fmt: skip
    trials = status["trials"]
    assert trials[0]["tokens_per_s"] == pytest.approx(128 * 4096 / 68.70, rel=0.02)
    outcomes = {trial["outcome"] for trial in trials}
    assert outcomes == {"ok", "oom_gpu"}, trials
    for trial in trials:
        if trial["outcome"] == "oom_gpu":
            assert "CUDA out of memory" in trial["reason"]


def test_real_deepspeed_through_the_whole_loop(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    status = _run(
        tmp_path, "deepspeed", "--space", "llama1b_deepspeed", "--launcher", "local",
        "--set", "budget.trials=2", "--set", "budget.finalists=0", "--set", "trial.steps=8",
        "--set", "parameters.zero_stage.values=[1, 2]",
    )  # fmt: skip
    trials = status["trials"]
    assert [trial["outcome"] for trial in trials] == ["ok", "ok"], trials
    assert trials[0]["params"]["tensor_model_parallel_size"] == 2
    assert all(trial["tokens_per_s"] > 0 for trial in trials)
