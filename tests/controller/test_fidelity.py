"""Memory checks and proxies, through the command line on a program with sixteen made-up nodes."""

from __future__ import annotations

import pytest

from tests.controller.conftest import Cli

TRAINER = """
import argparse, sys, time
parser = argparse.ArgumentParser()
for name in ("steps", "layers", "nodes", "gbs", "tp", "mbs"):
    parser.add_argument("--" + name, type=int)
a = parser.parse_args()
need_gib = a.layers / 32 * (120 + 50 * a.mbs) / a.tp
if need_gib > 79:
    print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", flush=True)
    sys.exit(1)
flops = 6 * 6.7e9 * a.layers / 32 * a.gbs * 4096
step_s = flops / (a.nodes * 8 * 5e14) * (1 + 0.1 * a.tp) + 0.05 / a.mbs
for step in range(a.steps):
    time.sleep(0.005)
    print(f"step_time_s: {step_s} memory_gib: {need_gib}", flush=True)
"""

SPACE = """
name: big
framework: command
command: [python3, big.py, --steps, "{steps}", --layers, "{num_layers}", --nodes, "{nodes}", --gbs,
  "{global_batch_size}", --tp, "{tensor_model_parallel_size}", --mbs, "{micro_batch_size}"]
metric: {pattern: 'step_time_s: (?P<step_time_s>[0-9.e-]+) memory_gib: (?P<memory_gib>[0-9.]+)'}
model: llama-2-7b
cluster: {nodes: 16, gpus_per_node: 8, gpu: h100_80gb}
contract: {global_batch_size: 1024, seq_length: 4096, precision: bf16, optimizer: adam}
parameters:
  tensor_model_parallel_size: {values: [1, 2, 4, 8]}
  micro_batch_size: {values: [1, 2, 4]}
baseline: {tensor_model_parallel_size: 8, micro_batch_size: 1}
trial: {steps: 5, min_steps: 3, time_limit_s: 60}
budget: {trials: 7, finalists: 1}
"""


@pytest.fixture
def big(cli: Cli) -> Cli:
    cli.write("big.py", TRAINER)
    cli.write("big.yaml", SPACE)
    return cli


def test_a_doubtful_fit_is_checked_on_fewer_nodes_first(big: Cli) -> None:
    big("run", "--space", "big.yaml", "--study", "checked")
    trials = big.json("status", "checked")["trials"]
    checks = [t for t in trials if t["fidelity"] == "check"]
    in_full = [t for t in trials if t["fidelity"] == "full"]
    assert {"ok", "oom_gpu"} <= {t["outcome"] for t in checks}
    assert all("of 16 nodes first" in t["chosen_because"] for t in checks)
    for check in checks:
        assert check["objective"] is None and not check["ran_to_end"]
        followed = [t for t in in_full if t["params"] == check["params"] and t["kind"] == "search"]
        assert len(followed) == (check["outcome"] == "ok")
        assert all(f"it fitted (trial {check['number']})" in t["chosen_because"] for t in followed)
        assert check["gpu_seconds"] <= check["seconds"] * 8.01  # one node of the sixteen
    assert "(fits)" in big("status", "checked").stdout
    assert in_full[0]["kind"] == "baseline"
    never = big.json("run", "--space", "big.yaml", "--set", "trial.memory_check_nodes=null")
    assert {t["fidelity"] for t in big.json("status", never["study"])["trials"]} == {"full"}


def test_a_proxy_searches_and_never_wins(big: Cli) -> None:
    best = big.json("run", "--space", "big.yaml", "--study", "p", "--set", "trial.proxy_gpus=16")
    trials = {t["number"]: t for t in big.json("status", "p")["trials"]}
    proxies = [t for t in trials.values() if t["fidelity"] == "proxy"]
    assert proxies and all("2 of 16 nodes, 2 of 32 layers" in t["chosen_because"] for t in proxies)
    for proxy in proxies:
        assert proxy["objective"] is None and not proxy["ran_to_end"]
        if proxy["outcome"] == "ok":
            assert "by the cost model" in " ".join(proxy["notes"])
            flops = 6 * 6.7e9 * 1024 * 4096 / (128 * 5e14)
            assert 0.7 * flops < proxy["step_time_s"] < 2.5 * flops  # the whole job's, about
    assert all(trials[n]["fidelity"] == "full" for n in best["trials_pooled"])
    whole = {t["kind"] for t in trials.values() if t["fidelity"] == "full"}
    assert {"baseline", "search", "finalist"} <= whole
    assert any("it leads by proxy" in t["chosen_because"] for t in trials.values())
    assert "by proxy)" in big("status", "p").stdout
