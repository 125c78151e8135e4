"""What is searched for besides tokens/s: cost per token, and memory beside speed."""

from __future__ import annotations

import pytest

from tests.controller.conftest import Cli, cli

__all__ = ["cli"]

TRAINER = """
import sys
rate, memory = (float(word) for word in sys.argv[1:])
for step in range(1, 7):
    print(f"step {step} tokens/s: {rate} memory: {memory}", flush=True)
"""
SPACE = """
name: shop
framework: command
command: ["python3", "shop.py", "{rate}", "{memory}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+) memory: (?P<memory_gib>[0-9.]+)'}
cluster: {nodes: 1, gpus_per_node: 4}
parameters:
  rate: {values: [1000, 2000, 3000]}
  memory: {values: [10, 20, 30]}
constraints: ["rate == 100 * memory or rate == 2000"]
baseline: {rate: 1000, memory: 10}
trial: {min_steps: 3, time_limit_s: 60}
budget: {trials: 20, finalists: 1}
"""


@pytest.fixture
def shop(cli: Cli) -> Cli:
    cli.write("shop.py", TRAINER)
    cli.write("shop.yaml", SPACE)
    return cli


def test_the_front_of_speed_and_memory_fastest_first(shop: Cli) -> None:
    shop("run", "--space", "shop.yaml", "--study", "s", "--sampler", "grid")
    front = shop.json("best", "s", "--pareto")
    assert [(t["params"]["rate"], t["peak_memory_gib"]) for t in front] == [(3000, 30), (2000, 10)]
    table = shop("best", "s", "--pareto").stdout
    assert "peak memory GiB" in table and "3,000" in table and "1,000" not in table


def test_nothing_measured_has_no_front(shop: Cli) -> None:
    run = ["run", "--space", "job.yaml", "--study", "s", "--trials", "1", "--sampler", "grid"]
    shop(*run, "--set", "budget.finalists=0")
    assert "peak memory" in shop("best", "s", "--pareto", expect=1).stderr
    assert shop.json("best", "s", "--pareto", expect=1) == []


def test_cost_per_token_is_price_by_rate(shop: Cli) -> None:
    price = ["--set", "objective={metric: cost_per_token, price_per_gpu_hour: 3.6}"]
    shop("run", "--space", "shop.yaml", "--study", "s", *price)
    best = shop.json("best", "s")
    assert best["metric"] == "cost_per_token" and best["params"]["rate"] == 3000
    assert best["objective"]["value"] == pytest.approx(4 * 0.001 / 3000)
    assert best["baseline_objective"]["value"] == pytest.approx(4 * 0.001 / 1000)
    assert best["gain"] == pytest.approx(3.0)
    assert best["tokens_per_s"] == pytest.approx(3000)
    assert "per token" in shop("best", "s").stdout


def test_cost_per_token_on_the_simulated_cluster_counts_its_gpus(cli: Cli) -> None:
    cli("run", "--space", "llama8b_tp_pp", "--simulate", "--study", "s", "--trials", "2",
        "--set", "budget.finalists=0", "--set", "objective.metric=cost_per_token")  # fmt: skip
    for trial in cli.json("status", "s")["trials"]:
        if trial["outcome"] == "ok":
            expected = 8 / 3600 / trial["tokens_per_s"]
            assert trial["objective"] == pytest.approx(expected, rel=1e-6)
