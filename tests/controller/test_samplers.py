"""Whole studies through the command line: every sampler by name, and a search that ends itself."""

from __future__ import annotations

import pytest

from autotune.search import sampler_names
from tests.controller.conftest import Cli

SPACE = """
name: few
framework: command
command: [python3, few.py, "{batch}", "{heads}", "{mode}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters:
  batch: {values: [1, 2, 4]}
  heads: {values: [1, 2, 3]}
  mode: {values: [slow, fast], when: batch > 1}
constraints: ["batch * heads <= 8"]
baseline: {batch: 1, heads: 1}
trial: {min_steps: 2, time_limit_s: 60}
budget: {trials: 40, finalists: 0}
"""

TRAINER = """
import sys
for _ in range(3):
    print(f"tokens/s: {1000 * int(sys.argv[1]) / int(sys.argv[2])}", flush=True)
"""

REFUSING = """
import sys
if sys.argv[2] == "4":
    print("Traceback (most recent call last):", file=sys.stderr)
    print("AssertionError: num_attention_heads (6) must be a multiple of "
          "tensor_model_parallel_size (4).", file=sys.stderr, flush=True)
    sys.exit(1)
for _ in range(3):
    print(f"tokens/s: {1000 * int(sys.argv[1]) * int(sys.argv[2])}", flush=True)
"""

EQUAL = """
for _ in range(3):
    print("tokens/s: 1000", flush=True)
"""


@pytest.fixture
def few(cli: Cli) -> Cli:
    cli.write("few.py", TRAINER)
    cli.write("few.yaml", SPACE)
    return cli


NEED_MORE = {"cmaes": "cmaes", "gp": "torch"}
"""Samplers whose packages the base install leaves out."""


@pytest.mark.parametrize("name", [n for n in sampler_names() if n not in ("autotune", "grid")])
def test_every_sampler_runs_each_legal_config_once(few: Cli, name: str) -> None:
    done = few("run", "--space", "few.yaml", "--study", "s", "--sampler", name, "--trials", "4",
               expect=None)  # fmt: skip
    if done.returncode == 2:
        assert name in NEED_MORE and NEED_MORE[name] in done.stderr
        return
    assert done.returncode == 0, done.stderr
    trials = few.json("status", "s")["trials"]
    configs = [tuple(t["params"].items()) for t in trials]
    assert len(configs) == len(set(configs)) == 4
    for trial in trials:
        params = trial["params"]
        assert params["batch"] * params["heads"] <= 8
        assert (params.get("mode") is None) == (params["batch"] == 1)


def test_an_unknown_sampler_is_refused_with_the_known_ones(few: Cli) -> None:
    done = few("run", "--space", "few.yaml", "--sampler", "tpo", expect=2)
    assert "tpo" in done.stderr
    for name in ("autotune", "tpe", "random", "nsgaii", "heuristic"):
        assert name in done.stderr


def test_what_the_framework_refuses_is_not_tried_again(cli: Cli) -> None:
    cli.write("refusing.py", REFUSING)
    space = """
    name: refusing
    framework: command
    command: [python3, refusing.py, "{batch}", "{tensor_model_parallel_size}"]
    metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
    cluster: {gpus_per_node: 4}
    parameters: {batch: {values: [1, 2, 3]}, tensor_model_parallel_size: {values: [1, 2, 4]}}
    trial: {min_steps: 2, time_limit_s: 60}
    budget: {trials: 7, finalists: 0}
    """
    cli.write("refusing.yaml", space)
    cli("run", "--space", "refusing.yaml", "--study", "r")
    trials = cli.json("status", "r")["trials"]
    refused = [t for t in trials if t["outcome"] == "invalid_config"]
    assert len(trials) == 7 and len(refused) == 1
    skipped = cli("explain", "r", "--skipped", "--kind", "invalid").stdout
    assert f"trial {refused[0]['number']} was refused by the framework" in skipped
    assert "tensor_model_parallel_size=4" in skipped


def test_equal_configs_end_the_study(cli: Cli) -> None:
    cli.write("equal.py", EQUAL)
    space = """
    name: equal
    framework: command
    command: [python3, equal.py, "{a}", "{b}", "{c}"]
    metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
    parameters: {a: {values: [1, 2, 4, 8]}, b: {values: [1, 2, 3, 4]}, c: {values: [x, y, z, w]}}
    trial: {min_steps: 2, time_limit_s: 60}
    budget: {trials: null, finalists: 0}
    """
    cli.write("equal.yaml", space)
    cli("run", "--space", "equal.yaml", "--study", "e")
    found = cli.json("status", "e")
    assert "trials in a row brought no better one" in found["ended"]
    assert len(found["trials"]) < 64
