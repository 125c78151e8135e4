"""Proof on two real GPUs of one host: every framework trained there, through `autotune run`.

    python analysis/gpu_pair.py deepspeed --out DIR [--wall-time-s 480] [--set KEY=VALUE ...]
    python analysis/gpu_pair.py ddp       --out DIR      # and the one-GPU winner, beside it
    python analysis/gpu_pair.py megatron  --out DIR
    python analysis/gpu_pair.py ttt       --out DIR      # time to train, under accelerate
    python analysis/gpu_pair.py expected  --out DIR

Each searches a shipped space, with the changes that `JOBS` lists, and writes DIR/pair_NAME.json:
what `autotune status` and `best` say, and for each trial what the cost model expected of it and,
under DeepSpeed, how many samples a step its own SamplesPerSec amounts to. Called again it goes on
with the study, as `gpu_proof.py` does. Without a GPU the smaller jobs of the spaces run, for trying
out. ``expected`` sets those files beside the cost model alone, which none of the runs has taught.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_proof import HAND_MADE, machine, measure, offered, search, this_gpu, write

from autotune.costmodel import CostModel
from autotune.frameworks import get_framework
from autotune.search.prior import prepare_table
from autotune.space import build_legal_set, load_space
from autotune.study.paths import StudyPaths

OWN_RATE = re.compile(rb"global_step=(\d+), .*?CurrSamplesPerSec=([0-9.]+)")
STEP_TIME = re.compile(rb"step (\d+)/\d+ .*?step_time_s ([0-9.]+)")
ONE_GPU_WINNER: dict[str, Any] = {
    **HAND_MADE,
    "micro_batch_size": 128,
    "global_batch_size": 256,
    "residual_dtype": "bf16",
    "attention_backend": "cudnn",
    "cross_entropy": "fused",
    "cross_entropy_chunks": 2,
    "lm_head_precision": "fp8",
}
"""What the search on one H100 ended with (`results/gpu/ladder.json`)."""


@dataclass(frozen=True)
class Study:
    """A shipped space, what is changed on GPUs, and what everywhere."""

    space: str
    on_gpus: tuple[str, ...]
    always: tuple[str, ...] = ()


JOBS = {
    "deepspeed": Study(
        "llama1b_deepspeed",
        (
            "parameters.tensor_model_parallel_size.values=[1, 2]",
            "baseline.tensor_model_parallel_size=2",
            "parameters.torch_compile_mode.values=[default]",
        ),
        ("budget.trials=12", "budget.finalists=2"),
    ),
    "ddp": Study(
        "gpt_torch_ddp",
        (
            "parameters.micro_batch_size={powers_of_two: [8, 128]}",
            "parameters.cross_entropy.values=[full, fused]",
            "parameters.attention_backend={values: [sdpa, cudnn]}",
            "baseline.attention_backend=sdpa",
            "parameters.lm_head_precision={values: [same, fp8], "
            "when: 'cross_entropy == \"fused\"'}",
            "options.flags={matmul_precision: high, fused_normalization: true, fused_gelu: true, "
            "optimizer_implementation: fused, pin_memory: true, make_vocab_size_divisible_by: 64}",
            "trial.steps=16",
        ),
        ("budget.trials=9", "budget.finalists=1"),
    ),
    "megatron": Study(
        "tiny_megatron_core",
        (
            "model=gpt2-124m",
            "contract={global_batch_size: 128, seq_length: 1024, precision: bf16, optimizer: adam}",
            "parameters.micro_batch_size.values=[1, 4, 16, 32]",
            "baseline.micro_batch_size=4",
        ),
        ("budget.trials=8",),
    ),
    "ttt": Study(
        "llama1b_dolly_ttt",
        (
            "model=gpt2-124m",
            "contract.optimizer=adamw",
            "options.param_dtype=fp32",
            "options.eval_interval=10",
            "options.max_steps=400",
            "objective={metric: time_to_target_s, target: 3.0, seeds: 3}",
            "parameters.learning_rate.values=[0.0003, 0.001]",
            "parameters.global_batch_size.values=[16, 32, 64]",
            "parameters.micro_batch_size.powers_of_two=[1, 16]",
            "parameters.torch_compile.values=[false]",
            "parameters.torch_compile_mode.values=[default]",
            "baseline.learning_rate=0.0003",
        ),
        ("budget.trials=6", "budget.finalists=2", "trial.time_limit_s=300"),
    ),
}
GPU_OF_THE_FILES = "cluster.gpu=h100_80gb"
TWO_GPUS = ("cluster.nodes=1", "cluster.gpus_per_node=2")


def changes(job: Study) -> tuple[str, ...]:
    """The overrides of a job on this machine."""
    gpu = this_gpu()
    return (*TWO_GPUS, *((*gpu, *job.on_gpus) if gpu else ()), *job.always)


def trial_details(study: str, trial: Mapping[str, Any]) -> dict[str, Any]:
    """What the files of a trial tell besides `autotune status`: expected, and DeepSpeed's count."""
    paths = StudyPaths.named(study).trial(trial["number"], trial["attempt"])
    chosen = json.loads(paths.chosen.read_text(encoding="utf-8"))
    log = b"".join(path.read_bytes() for path in sorted(paths.logs.glob("rank0.*")))
    seconds = {int(step): float(time) for step, time in STEP_TIME.findall(log)}
    claimed = [float(r) * seconds[int(s)] for s, r in OWN_RATE.findall(log) if int(s) in seconds]
    found: dict[str, Any] = {"expected": chosen["prediction"]}
    if claimed:
        found["deepspeed_samples_per_step"] = round(statistics.median(claimed), 2)
    return found


def run(what: str, folder: Path, overrides: Sequence[str], wall_time_s: float) -> None:
    """One study, and the one-GPU winner measured before the study of DDP."""
    job, study = JOBS[what], f"pair_{what}"
    told: dict[str, Any] = {"machine": machine()}
    if what == "ddp":
        told["one_gpu"] = one_gpu_winner()
        wall_time_s -= told["one_gpu"]["wall_s"]
    told["search"] = search(job.space, study, (*changes(job), *overrides), wall_time_s)
    trials = told["search"]["status"]["trials"] if told["search"]["status"] else []
    for trial in trials:
        trial |= trial_details(study, trial)
    write(folder, study, told)
    for trial in trials:
        print(row(trial))


def one_gpu_winner() -> dict[str, Any]:
    """The winner of the ladder on one GPU, run on one GPU of this machine."""
    gpu = this_gpu()
    space = load_space("gpt_torch", gpu or tuple(load_space("gpt_torch").options["without_gpu"]))
    values: Mapping[str, Any] = ONE_GPU_WINNER
    if not gpu:
        values = {"micro_batch_size": 8, "global_batch_size": 8, "compile": False}
    return measure(space, offered(space, values), steps=16)


def expected(folder: Path) -> None:
    """Step time and memory of every config that ran, beside what the cost model says of it."""
    for what, job in JOBS.items():
        told = json.loads((folder / f"pair_{what}.json").read_text(encoding="utf-8"))
        space = load_space(job.space, (*TWO_GPUS, GPU_OF_THE_FILES, *job.on_gpus, *job.always))
        legal = build_legal_set(space, get_framework(space.frameworks[0]).rules(space))
        model = CostModel.for_space(space)
        assert model is not None
        table = prepare_table(model, legal)
        times = table.step_time(table.constants.mean)
        memory = table.device_memory(table.constants.mean)
        for trial in told["search"]["status"]["trials"]:
            index = legal.find({**space.baseline, **trial["params"]})
            if index is None or trial["outcome"] != "ok":
                continue
            time_error = times[index] / trial["step_time_s"] - 1.0
            memory_error = memory[index] / trial["peak_memory_gib"] - 1.0
            print(
                f"{what} {trial['number']}: {trial['step_time_s']:.4f} s, expected "
                f"{times[index]:.4f} ({time_error:+.0%}); {trial['peak_memory_gib']:.1f} GiB, "
                f"expected {memory[index]:.1f} ({memory_error:+.0%})"
            )


def row(trial: Mapping[str, Any]) -> str:
    """One line of a trial for a person who watches."""
    keys = (
        "number",
        "kind",
        "outcome",
        "tokens_per_s",
        "step_time_s",
        "peak_memory_gib",
        "seconds",
    )
    return json.dumps({key: trial.get(key) for key in keys} | {"params": trial["params"]})


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=[*sorted(JOBS), "expected"])
    parser.add_argument("--out", type=Path, default=Path("analysis/results/gpu"))
    parser.add_argument("--wall-time-s", type=float, default=480.0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    if given.what == "expected":
        expected(given.out)
        return
    run(given.what, given.out, given.overrides, given.wall_time_s)


if __name__ == "__main__":
    main()
