"""A whole time-to-train study on the real trainer: throughput first, then seeds to the target."""

from __future__ import annotations

import pytest

pytest.importorskip("accelerate")

from tests.controller.conftest import Cli, cli

__all__ = ["cli"]

pytestmark = pytest.mark.slow

SPACE = """
name: tiny_ttt
model: tiny-llama
cluster: {nodes: 1, gpus_per_node: 1, gpu: cpu_host}
framework: accelerate
contract: {global_batch_size: 16, seq_length: 64, precision: fp32, optimizer: adamw,
           search: [global_batch_size]}
parameters:
  global_batch_size: {values: [8, 16]}
  micro_batch_size: {values: [8]}
  learning_rate: {values: [0.006]}
baseline: {global_batch_size: 16, micro_batch_size: 8, learning_rate: 0.006}
objective: {metric: time_to_target_s, target: 5.0, seeds: 2}
options: {eval_interval: 5, max_steps: 60}
trial: {steps: 5, min_steps: 3, warmup_steps: 1, time_limit_s: 240}
budget: {trials: 2, finalists: 1}
"""


def test_throughput_first_then_seeds_to_the_target_loss(cli: Cli) -> None:
    cli.write("ttt.yaml", SPACE)
    best = cli.json("run", "--space", "ttt.yaml", "--study", "t")
    trials = cli.json("status", "t")["trials"]
    assert [t["outcome"] for t in trials] == ["ok"] * 6
    assert [t["fidelity"] for t in trials] == ["throughput"] * 2 + ["target"] * 4
    looks, runs = trials[:2], trials[2:]
    assert {t["params"]["global_batch_size"] for t in looks} == {8, 16}
    assert all(t["objective"] is None and t["sample_time_s"] > 0.0 for t in looks)
    assert sorted((t["params"]["global_batch_size"], t["seed"]) for t in runs) == [
        (8, 1234), (8, 1235), (16, 1234), (16, 1235),
    ]  # fmt: skip
    assert all(1.0 < t["perplexity"] <= 2.7183**5.0 for t in runs)

    times = [t["objective"] for t in runs if t["params"] == best["params"]]
    assert best["objective"]["value"] == pytest.approx(sum(times) / 2)
    assert (best["metric"], best["seeds"], best["seeds_reached"]) == ("time_to_target_s", 2, 2)
    assert best["without_opt_ins"]["params"]["global_batch_size"] == 16

    cli("export", "t", "--format", "accelerate", "-o", "winner")
    script = (cli.folder / "winner" / "run.sh").read_text()
    assert "launch --config_file" in script and "--target-loss" in script
