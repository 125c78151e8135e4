"""Proof on a real GPU: what the search finds there, beside what a hand finds.

    python analysis/h200.py ladder --out DIR [--wall-time-s 480] [--set KEY=VALUE ...]
    python analysis/h200.py grid   --out DIR [--wall-time-s 480] [--set KEY=VALUE ...]

``ladder`` searches `gpt_torch` and, in the same call, measures the hand-made final configuration
of the published ladder (bf16, SDPA, compile, fused AdamW, padded vocabulary) at its largest
power-of-two micro batches. ``grid`` measures every config of a small part of `llama1b_torch`
once; its table is a benchmark for searches (`analysis/data/`). Both need nothing but this
checkout on the path and a GPU; on a CPU they run the smaller jobs of the spaces, for trying out.
Minutes on a lent GPU are few, so each writes its JSON as it goes and is bounded in time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.config import Config
from autotune.frameworks import RenderContext, get_framework
from autotune.launchers.nvml import read_gpus
from autotune.logs import LogReader, Parser
from autotune.space import SearchSpace, load_space

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
HAND_MADE_BATCHES = ((32, 32), (128, 128), (128, 256))  # (micro batch, global batch)
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
H200 = ("cluster.gpu=h200_141gb",)


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


def search(space: str, study: str, overrides: Sequence[str], *options: str) -> dict[str, Any]:
    """`autotune run`, and what `status` and `best` say afterwards, with the command itself."""
    cli = [sys.executable, "-m", "autotune"]
    command = [*cli, "run", "--space", space, "--study", study, "--fresh", *options]
    for override in overrides:
        command += ["--set", override]
    started = time.monotonic()
    ended = subprocess.run(command, check=False)
    told = {
        name: subprocess.run([*cli, name, study, "--json"], capture_output=True, check=False).stdout
        for name in ("status", "best")
    }
    return {
        "command": command[1:],
        "exit_code": ended.returncode,
        "wall_s": round(time.monotonic() - started, 1),
        **{name: json.loads(text) if text.strip() else None for name, text in told.items()},
    }


def trials_until(trials: Sequence[Mapping[str, Any]], target: float) -> int | None:
    """How many trials, the baseline counted, until one was at least as fast as ``target``."""
    for count, trial in enumerate(trials, 1):
        if trial["outcome"] == "ok" and (trial["tokens_per_s"] or 0.0) >= target:
            return count
    return None


def write(folder: Path, name: str, data: Mapping[str, Any]) -> None:
    """Replace one result file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def ladder(folder: Path, overrides: Sequence[str], wall_time_s: float) -> None:
    """The search of gpt_torch beside the hand-made final configuration."""
    on_gpu = bool(read_gpus())
    base = load_space("gpt_torch")
    changes = (*H200, *overrides) if on_gpu else tuple(base.options["without_gpu"])
    space = load_space("gpt_torch", changes)
    result: dict[str, Any] = {"machine": machine(), "hand_made": []}
    for micro, whole in HAND_MADE_BATCHES if on_gpu else ((8, 8),):
        values = {**HAND_MADE, "micro_batch_size": micro, "global_batch_size": whole}
        result["hand_made"].append(measure(space, offered(space, values), steps=12))
        write(folder, "ladder", result)
    final = max((run["tokens_per_s"] or 0.0 for run in result["hand_made"]), default=0.0)
    limits = (f"budget.wall_time_s={wall_time_s:.0f}", "trial.steps=12", "trial.min_steps=4")
    given = (*H200, *limits, *overrides) if on_gpu else (*limits, *overrides)
    found = search("gpt_torch", "h200_ladder", given)
    trials = found["status"]["trials"] if found["status"] else []
    best = found["best"]["tokens_per_s"] if found["best"] else None
    result |= {
        "hand_made_tokens_per_s": final,
        "winner_over_hand_made": best / final if best and final else None,
        "trials_to_reach_hand_made": trials_until(trials, final),
        "search": found,
    }
    write(folder, "ladder", result)
    print(json.dumps({key: result[key] for key in result if key not in ("search", "hand_made")}))


def grid(folder: Path, overrides: Sequence[str], wall_time_s: float) -> None:
    """Every config of a small part of llama1b_torch, once."""
    limits = ("budget.trials=100", f"budget.wall_time_s={wall_time_s:.0f}", "budget.finalists=0")
    shape = (*GRID, *H200, "trial.steps=8", "trial.min_steps=4") if read_gpus() else ()
    found = search("llama1b_torch", "h200_grid", (*shape, *limits, *overrides), "--sampler", "grid")
    write(folder, "llama_grid", {"machine": machine(), "search": found})


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
    parser.add_argument("what", choices=["ladder", "grid"])
    parser.add_argument("--out", type=Path, default=Path("analysis/results/h200"))
    parser.add_argument("--wall-time-s", type=float, default=480.0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    {"ladder": ladder, "grid": grid}[given.what](given.out, given.overrides, given.wall_time_s)


if __name__ == "__main__":
    main()
