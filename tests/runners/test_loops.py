"""The whole loop over real programs on this machine: choose, render, launch, read, judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autotune.frameworks import RenderContext, get_framework
from autotune.space import build_legal_set, load_space
from tests.engines import slurm

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


NEMO = (
    "--space", "llama7b_lora_nemo", "--set", "runner=nemo_lora/stand_in.py",
    "--set", "budget.finalists=0", "--set", "trial.steps=8", "--set", "trial.hang_floor_s=5",
)  # fmt: skip


def test_nemos_format_and_its_oom_through_the_whole_loop(tmp_path: Path) -> None:
    status = _run(tmp_path, "nemo", *NEMO, "--launcher", "local", "--set", "budget.trials=8")
    trials = status["trials"]
    assert trials[0]["tokens_per_s"] == pytest.approx(128 * 4096 / 68.70, rel=0.02)
    outcomes = {trial["outcome"] for trial in trials}
    assert outcomes == {"ok", "oom_gpu"}, trials
    for trial in trials:
        if trial["outcome"] == "oom_gpu":
            assert "CUDA out of memory" in trial["reason"]


@pytest.fixture
def real_slurm(tmp_path: Path) -> Iterator[None]:
    """Two virtual nodes of eight fake GPUs; SLURM_CONF points to them meanwhile."""
    reason = slurm.missing()
    if reason:
        pytest.skip(reason)
    with slurm.started(tmp_path):
        yield


@pytest.mark.usefixtures("real_slurm")
def test_nemo_under_slurm_loop_and_exported_batch_script(tmp_path: Path) -> None:
    status = _run(
        tmp_path / "home",
        "nemo",
        *NEMO,
        "--set",
        "budget.trials=3",
        "--set",
        "trial.time_limit_s=600",
    )
    trials = status["trials"]
    assert trials[0]["tokens_per_s"] == pytest.approx(128 * 4096 / 68.70, rel=0.02)
    assert {trial["outcome"] for trial in trials} <= {"ok", "oom_gpu"}, trials

    space = load_space("llama7b_lora_nemo", ["runner=nemo_lora/stand_in.py", "trial.steps=4"])
    nemo = get_framework("nemo")
    legal = build_legal_set(space, nemo.rules(space))
    place = legal.find(space.baseline)
    assert place is not None
    out = tmp_path / "out"
    job = nemo.render(space, legal.config(place), RenderContext(out, purpose="export"))
    for name, text in job.files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["sbatch", "--wait", "--output=job.log", "nemo.sbatch"],
        cwd=out, env={**os.environ, "PATH": path}, check=True, timeout=120,
    )  # fmt: skip
    log = (out / "job.log").read_text()
    assert "train_step_timing in s=" in log
    assert "`max_steps=4` reached" in log


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
