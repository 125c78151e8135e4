"""One search over DeepSpeed and Megatron-LM: the documented space, really rendered, by a stub.

The stub stands in for the interpreter of the training environment: it reads what was rendered
for either program and prints that program's own lines.
"""

from __future__ import annotations

from pathlib import Path

from tests.controller.conftest import Cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "spaces.md"

STUB = """#!/usr/bin/env python3
import json, os, sys
arguments = sys.argv[1:]
given = dict(zip(arguments, arguments[1:]))
if os.environ["RANK"] != "0":
    sys.exit(0)
if arguments[0].endswith("pretrain_gpt.py"):
    size = int(given["--tensor-model-parallel-size"])
    steps, seconds = int(given["--train-iters"]), 1.0 + 0.2 * size
    assert given["--global-batch-size"] == "32" and given["--seq-length"] == "2048"
    line = (" iteration {n:8d}/{steps:8d} | consumed samples: {n:12d} | elapsed time per iteration "
            "(ms): {ms:.1f} | learning rate: 1.0E-05 | lm loss: 8.0E+00 |")
else:
    config = json.load(open(given["--deepspeed"]))
    steps, seconds = int(given["--steps"]), 1.5 + 0.1 * config["zero_optimization"]["stage"]
    assert config["train_batch_size"] == 32
    line = ("step {n}/{steps} | loss 8.000000 | step_time_s {seconds:.6f} | tokens 65536 | "
            "tokens_per_s {rate:.2f} | memory_gib 20.000")
for n in range(1, steps + 1):
    print(line.format(n=n, steps=steps, seconds=seconds, ms=1e3 * seconds, rate=65536 / seconds),
          flush=True)
"""


def test_both_frameworks_are_ranked_by_the_same_true_tokens(cli: Cli) -> None:
    page = PAGE.read_text(encoding="utf-8")
    start = page.index("name: either_framework")
    cli.write("either.yaml", page[start : page.index("```", start)])
    cli.write("stub", STUB).chmod(0o755)
    (cli.folder / "Megatron-LM").mkdir()
    (cli.folder / "Megatron-LM" / "pretrain_gpt.py").touch()
    best = cli.json(
        "run", "--space", "either.yaml", "--study", "either", "--python", "./stub",
        "--set", "options.megatron_lm_dir=Megatron-LM", "--set", "trial.steps=6",
        "--set", "trial.min_steps=3", "--set", "budget.finalists=1", "--trials", "6",
    )  # fmt: skip
    trials = cli.json("status", "either")["trials"]
    ran: dict[str, list[float]] = {"deepspeed": [], "megatron": []}
    for trial in trials:
        params = trial["params"]
        megatron = params["framework"] == "megatron"
        assert trial["outcome"] == "ok", (trial["outcome"], trial["reason"], trial["evidence"])
        assert (params["zero_stage"] is None) == megatron
        assert (params["tensor_model_parallel_size"] is None) != megatron
        size = params["tensor_model_parallel_size"] if megatron else params["zero_stage"]
        seconds = 1.0 + 0.2 * size if megatron else 1.5 + 0.1 * size
        assert abs(trial["tokens_per_s"] - 65536 / seconds) < 1.0
        ran[params["framework"]].append(trial["tokens_per_s"])
    assert ran["deepspeed"] and ran["megatron"]
    assert best["params"]["framework"] == "megatron"
    assert best["tokens_per_s"] == max(*ran["deepspeed"], *ran["megatron"])
