"""Proof on a real GPU: what the search finds there, beside what a hand finds.

    python analysis/gpu_proof.py ladder --out DIR [--wall-time-s 480] [--set KEY=VALUE ...]
    python analysis/gpu_proof.py rungs  --out DIR
    python analysis/gpu_proof.py table  --out DIR      # DIR/llama_grid.json as a CSV on stdout
    python analysis/gpu_proof.py grid   --out DIR [--wall-time-s 480] [--set KEY=VALUE ...]

``ladder`` searches `gpt_torch` and, in the same call, measures the hand-made final configuration
of the published ladder (bf16, SDPA, compile, fused AdamW, padded vocabulary) at its largest
power-of-two micro batches. ``rungs`` has `autotune explain` measure which change bought what.
``grid`` measures every config of a small part of `llama1b_torch` once; its table is a benchmark
for searches (`analysis/data/`). They need nothing but this checkout on the path and a GPU; on a
CPU they run the smaller jobs of the spaces, for trying out. Minutes on a lent GPU are few, so
each is bounded in time and goes on where the last call stopped (its study stands under
AUTOTUNE_HOME, which has to travel).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.config import Config
from autotune.costmodel.hardware import hardware_for_gpu
from autotune.frameworks import RenderContext, get_framework
from autotune.launchers.nvml import read_gpus
from autotune.logs import LogReader, Parser
from autotune.space import SearchSpace, load_space
from autotune.study.paths import StudyPaths

HAND_MADE: dict[str, Any] = {
    "precision": "bf16",
    "residual_dtype": "fp32",
    "attention_backend": "sdpa",
    "fused_normalization": True,
    "fused_gelu": True,
    "optimizer_implementation": "fused",
    "pin_memory": True,
    "compile": True,
    "compile_mode": "default",
    "compile_scope": "model",
    "make_vocab_size_divisible_by": 64,
    "cross_entropy": "full",
}
HAND_MADE_BATCHES = ((32, 32), (128, 256))  # (micro batch, global batch)
GRID = (
    "parameters.micro_batch_size.values=[1, 2, 4, 8, 16, 32]",
    "parameters.recompute_granularity.values=[none, full]",
    "parameters.compile.values=[false]",
    "parameters.optimizer_implementation.values=[fused]",
    "parameters.attention_backend.values=[unfused, flash]",
    "parameters.fused_normalization.values=[true]",
    "parameters.residual_dtype.values=[bf16]",
    "parameters.cross_entropy.values=[full]",
    "parameters.data_parallel.values=[ddp]",
    "baseline={micro_batch_size: 1, recompute_granularity: full, attention_backend: flash}",
)
COLUMNS = (
    *("source", "source_path", "model", "params_b", "layers", "hidden", "heads", "kv_heads"),
    *("ffn", "vocab", "seq_len", "gpu", "gpu_mem_gb", "nodes", "gpus", "tp", "pp", "cp", "ep"),
    *("vpp", "dp", "zero_or_fsdp", "mbs", "gbs", "recompute", "seq_parallel"),
    *("kernel/attention", "precision", "step_time_s", "tokens_per_s_per_gpu", "tflops_per_gpu"),
    *("mfu", "mem_gb", "status", "note"),
)
TRIAL_LENGTH = ("trial.steps=12", "trial.min_steps=4")


def offered(space: SearchSpace, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, each replaced by the last one on offer where a smaller job lacks it."""
    choices = {name: space.choices[name] for name in values}
    return {name: v if v in choices[name] else choices[name][-1] for name, v in values.items()}


def measure(space: SearchSpace, values: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """One config run once, outside any study: median tokens/s of its later half, or its end."""
    framework = get_framework(space.frameworks[0])
    with tempfile.TemporaryDirectory() as folder:
        trial_dir = Path(folder) / "trials" / "0"
        trial_dir.mkdir(parents=True)
        context = RenderContext(trial_dir=trial_dir, steps=steps)
        job = framework.render(space, Config(values), context)
        started = time.monotonic()
        ended = subprocess.run(
            job.argv, env={**os.environ, **job.env}, cwd=trial_dir, capture_output=True, check=False
        )
    parser = Parser(framework.log_format(space))
    lines = LogReader().feed(ended.stdout + b"\n")
    samples = [s for line in lines for s in parser.feed(line)] + parser.finish()
    seconds = [sample.seconds for sample in samples[len(samples) // 2 :] if sample.seconds]
    found: dict[str, Any] = {
        "values": dict(values),
        "command": list(job.argv),
        "exit_code": ended.returncode,
        "wall_s": round(time.monotonic() - started, 1),
        "tokens_per_s": None,
    }
    if ended.returncode == 0 and seconds and samples[-1].tokens:
        found["tokens_per_s"] = samples[-1].tokens / statistics.median(seconds)
        found["memory_gib"] = samples[-1].memory_gib
    else:
        found["stderr_tail"] = ended.stderr.decode(errors="replace")[-800:]
    return found


def search(
    space: str, study: str, overrides: Sequence[str], stop_after_s: float, *options: str
) -> dict[str, Any]:
    """`autotune run`, or `resume` where the study exists, and what it says of itself afterwards.

    After ``stop_after_s`` seconds it is interrupted as a person would with Ctrl-C: what runs is
    drained, and the next call goes on with the same study.
    """
    cli = [sys.executable, "-m", "autotune"]
    command = [*cli, "resume", study]
    if not StudyPaths.named(study).exists():
        command = [*cli, "run", "--space", space, "--study", study, *options]
        for override in overrides:
            command += ["--set", override]
    started = time.monotonic()
    running = subprocess.Popen(command)
    for patience_s in (stop_after_s, 60.0, 60.0):
        try:
            running.wait(patience_s)
            break
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
    running.wait()
    told = {
        name: subprocess.run([*cli, name, study, "--json"], capture_output=True, check=False).stdout
        for name in ("status", "best")
    }
    return {
        "command": command[1:],
        "exit_code": running.returncode,
        "wall_s": round(time.monotonic() - started, 1),
        **{name: json.loads(text) if text.strip() else None for name, text in told.items()},
    }


def trials_until(trials: Sequence[Mapping[str, Any]], target: float) -> int | None:
    """How many trials, the baseline counted, until one was at least as fast as ``target``."""
    for count, trial in enumerate(trials, 1):
        if trial["outcome"] == "ok" and (trial["tokens_per_s"] or 0.0) >= target:
            return count
    return None


def read(folder: Path, name: str) -> list[Any]:
    """What earlier calls wrote to one result file."""
    path = folder / f"{name}.json"
    found: list[Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return found


def write(folder: Path, name: str, data: Any) -> None:
    """Replace one result file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def ladder(folder: Path, overrides: Sequence[str], wall_time_s: float) -> None:
    """The search of gpt_torch beside the hand-made final configuration, both in this call.

    Called again, it goes on with the study and measures the hand-made configuration anew, since
    two machines of one kind differ by a few percent.
    """
    changes = this_gpu() or tuple(load_space("gpt_torch").options["without_gpu"])
    space = load_space("gpt_torch", (*changes, *overrides))
    call: dict[str, Any] = {"machine": machine(), "hand_made": []}
    started = time.monotonic()
    for micro, whole in HAND_MADE_BATCHES if this_gpu() else ((8, 8),):
        values = {**HAND_MADE, "micro_batch_size": micro, "global_batch_size": whole}
        call["hand_made"].append(measure(space, offered(space, values), steps=16))
    final = max((run["tokens_per_s"] or 0.0 for run in call["hand_made"]), default=0.0)
    left_s = wall_time_s - (time.monotonic() - started)
    found = search("gpt_torch", "gpu_ladder", (*this_gpu(), *TRIAL_LENGTH, *overrides), left_s)
    trials = found["status"]["trials"] if found["status"] else []
    best = found["best"]["tokens_per_s"] if found["best"] else None
    call |= {
        "hand_made_tokens_per_s": final,
        "winner_over_hand_made": best / final if best and final else None,
        "trials_to_reach_hand_made": trials_until(trials, final),
        "search": found,
    }
    write(folder, "ladder", [*read(folder, "ladder"), call])
    print(json.dumps({key: call[key] for key in call if key not in ("search", "hand_made")}))


def rungs(folder: Path, wall_time_s: float) -> None:
    """`autotune explain` of the searched study: each rung from the baseline to the winner."""
    command = [sys.executable, "-m", "autotune", "explain", "gpu_ladder", "--yes", "--json"]
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, check=False, timeout=wall_time_s, text=True
    )
    write(folder, "rungs", {"machine": machine(), "ladder": json.loads(ended.stdout)})


def grid(folder: Path, overrides: Sequence[str], wall_time_s: float) -> None:
    """Every config of a small part of llama1b_torch, once; called again, it goes on."""
    limits = ("budget.trials=100", "budget.finalists=0", "trial.stop_early=false")
    shape = (*GRID, *this_gpu(), "trial.steps=8", "trial.min_steps=4") if this_gpu() else ()
    changes = (*shape, *limits, *overrides)
    found = search("llama1b_torch", "gpu_grid", changes, wall_time_s, "--sampler", "grid")
    write(folder, "llama_grid", {"machine": machine(), "search": found})


def table(folder: Path) -> None:
    """The measured grid in the form of `analysis/data`, printed."""
    grid_file = json.loads((folder / "llama_grid.json").read_text(encoding="utf-8"))
    shape = load_space("llama1b_torch").model
    assert shape is not None
    rows = csv.DictWriter(sys.stdout, COLUMNS, restval="", lineterminator="\n")
    rows.writeheader()
    for trial in grid_file["search"]["status"]["trials"]:
        chosen = trial["params"]
        measured = trial["outcome"] == "ok"
        rows.writerow(
            {
                "source": "autotune, plain PyTorch on one lent GPU",
                "source_path": "analysis/gpu_proof.py grid",
                "model": "llama-3.2-1B",
                "layers": shape.num_layers,
                "hidden": shape.hidden_size,
                "heads": shape.num_attention_heads,
                "kv_heads": shape.num_query_groups,
                "ffn": shape.ffn_hidden_size,
                "vocab": shape.vocab_size,
                "seq_len": 2048,
                "gpu": "H100" if "H100" in grid_file["machine"]["gpus"][0] else "H200",
                "gpu_mem_gb": 80 if "H100" in grid_file["machine"]["gpus"][0] else 141,
                **dict.fromkeys(("nodes", "gpus", "tp", "pp", "cp", "dp"), 1),
                "zero_or_fsdp": "none",
                "mbs": chosen["micro_batch_size"],
                "gbs": 32,
                "recompute": chosen["recompute_granularity"],
                "kernel/attention": chosen["attention_backend"],
                "precision": "bf16",
                "step_time_s": trial["step_time_s"] if measured else "",
                "tokens_per_s_per_gpu": round(trial["tokens_per_s"], 1) if measured else "",
                "mem_gb": round(trial["peak_memory_gib"] * 1.073741824, 2) if measured else "",
                "status": "ok" if measured else "oom",
                "note": "fp32 weights, bf16 autocast and residual stream, eager, fused AdamW",
            }
        )


def this_gpu() -> tuple[str, ...]:
    """The override that names this machine's GPU; nothing on a CPU."""
    gpus = read_gpus()
    if not gpus:
        return ()
    gib = gpus[0].total_gib
    return (f"cluster.gpu={hardware_for_gpu(gpus[0].name, gib and gib * 1.0737).name}",)


def machine() -> dict[str, Any]:
    """What it ran on."""
    code = "import torch; print(torch.__version__, torch.cuda.is_available())"
    asked = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    gpus = [gpu.name for gpu in read_gpus()]
    return {"gpus": gpus, "torch": asked.stdout.strip(), "python": sys.version.split()[0]}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["ladder", "rungs", "grid", "table"])
    parser.add_argument("--out", type=Path, default=Path("analysis/results/gpu"))
    parser.add_argument("--wall-time-s", type=float, default=480.0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    if given.what == "rungs":
        rungs(given.out, given.wall_time_s)
    elif given.what == "table":
        table(given.out)
    else:
        run = {"ladder": ladder, "grid": grid}[given.what]
        run(given.out, given.overrides, given.wall_time_s)


if __name__ == "__main__":
    main()
