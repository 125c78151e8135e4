"""The accelerate runner on two CPU ranks: throughput, and time to a target."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("accelerate")

from autotune.config import Config
from autotune.export import Winner, write_export
from autotune.frameworks import RenderContext, get_framework
from autotune.logs import Parser
from autotune.space import SearchSpace, build_legal_set, parse_space
from autotune.trial import Job, StepSample

pytestmark = pytest.mark.slow

ACCELERATE = get_framework("accelerate")
SPACE = """
name: tiny_ttt
model: tiny-llama
cluster: {nodes: 1, gpus_per_node: 2, gpu: cpu_host}
framework: accelerate
contract:
  {seq_length: 96, precision: fp32, optimizer: adamw, search: [global_batch_size]}
parameters:
  global_batch_size: {values: [8, 16]}
  micro_batch_size: {values: [1, 2, 4]}
  learning_rate: {values: [0.003]}
  gradient_checkpointing: {values: [false, true]}
baseline:
  {global_batch_size: 16, micro_batch_size: 4, learning_rate: 0.003, gradient_checkpointing: false}
objective: {metric: time_to_target_s, target: 4.6}
options: {eval_interval: 5, max_steps: 60}
"""
RunJob = Callable[[Job, Path], str]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return parse_space(SPACE)


def _config(space: SearchSpace, **changes: object) -> Config:
    legal = build_legal_set(space, ACCELERATE.rules(space))
    place = legal.find({**space.baseline, **changes})
    assert place is not None
    return legal.config(place)


def _samples(space: SearchSpace, log: str) -> list[StepSample]:
    parser = Parser(ACCELERATE.log_format(space))
    return [sample for line in log.splitlines() for sample in parser.feed(line)]


def test_the_run_stops_at_its_target_and_says_when(
    space: SearchSpace, run_job: RunJob, tmp_path: Path
) -> None:
    job = ACCELERATE.render(space, _config(space), RenderContext(tmp_path))
    samples = _samples(space, run_job(job, tmp_path))
    evaluations = [s.extra for s in samples if "eval_loss" in s.extra]
    assert [e["eval_loss"] <= 4.6 for e in evaluations] == [False] * (len(evaluations) - 1) + [True]
    for extra in evaluations:
        assert extra["perplexity"] == pytest.approx(2.718281828 ** extra["eval_loss"], rel=1e-3)
    steps = [s for s in samples if s.seconds is not None]
    assert len(steps) == 5 * len(evaluations) < 60
    (reached,) = [s.extra["time_to_target_s"] for s in samples if "time_to_target_s" in s.extra]
    assert reached > sum(s.seconds or 0.0 for s in steps)


def test_micro_batch_and_checkpointing_do_not_change_what_is_learned(
    space: SearchSpace, run_job: RunJob, tmp_path: Path
) -> None:
    losses = []
    for place, changes in enumerate(({}, {"micro_batch_size": 1, "gradient_checkpointing": True})):
        folder = tmp_path / str(place)
        folder.mkdir()
        job = ACCELERATE.render(space, _config(space, **changes), RenderContext(folder, steps=4))
        assert job.total_steps == 4
        samples = _samples(space, run_job(job, folder))
        assert not any("time_to_target_s" in s.extra for s in samples)
        losses.append([s.loss for s in samples])
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)


def test_accelerate_launch_starts_every_rank_of_an_export(
    space: SearchSpace, run_job: RunJob, tmp_path: Path
) -> None:
    """With one rank missing the batches, and so the losses, would be others."""
    config, folder = _config(space), tmp_path / "exported"
    exported = RenderContext(folder, steps=2, purpose="export")
    job = ACCELERATE.render(space, config, exported)
    facts = {"study": "s", "trial": 1, "figure": "1 s", "simulated": False}
    write_export("accelerate", Winner(space, config, job, folder, facts))
    launch = str(Path(sys.executable).with_name("accelerate"))
    said = subprocess.run(
        [folder / "run.sh"],
        env={**os.environ, "ACCELERATE": launch},
        capture_output=True, text=True, timeout=240, check=True,
    ).stdout  # fmt: skip
    job = ACCELERATE.render(space, config, RenderContext(tmp_path, steps=2))
    trial = _samples(space, run_job(job, tmp_path))
    losses = [[s.loss for s in samples] for samples in (_samples(space, said), trial)]
    assert len(losses[0]) == 2 and losses[0] == pytest.approx(losses[1], abs=2e-5)
