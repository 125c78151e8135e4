"""A stand-in for NeMo's fine-tuning program: reads its YAML, prints its format, trains nothing.

For trying the tuner where NeMo cannot be installed. Step time and memory follow a made-up
formula fixed at one published point (Llama-2-7B, TP4, micro batch 1: 68.70 s a step, 15.1 of
16 GB); no figure of this program says anything about NeMo.

    python stand_in.py --config-dir DIR --config-name NAME

It is started once per rank, like the real one. Environment: NEMO_STAND_IN_SLEEP_S is how long a
step really takes here (0.05), NEMO_STAND_IN_MEMORY_GIB the memory it pretends to have (16).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import yaml

PUBLISHED_STEP_S, PUBLISHED_GIB = 68.70, 15.1
WEIGHTS_GIB = 12.6
HANG_S = 3600.0


def read_config(folder: str, name: str) -> dict[str, Any]:
    """The YAML that was rendered for this run."""
    path = Path(folder) / f"{name}.yaml"
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def shares(model: dict[str, Any]) -> tuple[float, float]:
    """(share of activations kept, extra compute) for the recompute setting."""
    granularity = model.get("activations_checkpoint_granularity")
    if granularity == "selective":
        return 0.45, 0.04
    if granularity != "full":
        return 1.0, 0.0
    stage_layers = 32 / model["pipeline_model_parallel_size"]
    layers = model.get("activations_checkpoint_num_layers") or 1
    if model.get("activations_checkpoint_method") == "block":
        share = min(1.0, layers / stage_layers)
    else:
        share = 1.0
    return 1.0 - 0.93 * share, 0.33 * share


def made_up_figures(config: dict[str, Any]) -> tuple[float, float]:
    """(seconds a step, GiB a GPU); equals the published point in the published layout."""
    model = config["model"]
    tensor, pipeline = model["tensor_model_parallel_size"], model["pipeline_model_parallel_size"]
    micro = model["micro_batch_size"]
    kept, extra = shares(model)
    replicas = config["trainer"]["devices"] * config["trainer"]["num_nodes"] / tensor / pipeline
    micro_batches = model["global_batch_size"] / (micro * replicas)
    replicated = 0.2 if model.get("sequence_parallel") else 1.0
    activations = (PUBLISHED_GIB - WEIGHTS_GIB / 4) * micro * kept
    activations *= (0.8 * 4 / tensor + 0.2 * replicated * 4 / tensor) / pipeline * min(pipeline, 2)
    memory = WEIGHTS_GIB / (tensor * pipeline) + activations
    communication = {1: 0.62, 2: 0.75, 4: 1.0}.get(tensor, 1.5)
    bubble = (micro_batches + pipeline - 1) / micro_batches
    step = PUBLISHED_STEP_S * communication * (1 + extra) * bubble * (0.9 + 0.1 / micro)
    return step, memory


def die_of_memory(rank: int, memory_gib: float, limit_gib: float) -> None:
    """The last rank prints PyTorch's message and vanishes; the others wait for it, as they do."""
    if rank == int(os.environ.get("WORLD_SIZE", "1")) - 1:
        print(
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB "
            f"(GPU {rank}; {limit_gib:.2f} GiB total capacity; {memory_gib:.2f} GiB needed by "
            "this stand-in's formula)",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)
    time.sleep(HANG_S)


def bar(step: int, steps: int, seconds: float, loss: float, consumed: int) -> str:
    """A Lightning progress bar as NeMo 1 fills it, with a carriage return and no newline."""
    done = int(10 * step / steps)
    return (
        f"\rEpoch 0: : {100 * step // steps:3d}%|{'█' * done}{' ' * (10 - done)}| {step}/{steps} "
        f"[{int(step * seconds)}s<{int((steps - step) * seconds)}s, {seconds:.2f}s/it, v_num=, "
        f"reduced_train_loss={loss:.3f}, global_step={step - 1:.3f}, "
        f"consumed_samples={consumed:.1f}, train_step_timing in s={seconds:.2f}]"
    )


def main() -> None:
    """Pretends to train `trainer.max_steps` steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-dir", required=True)
    parser.add_argument("--config-name", required=True)
    arguments = parser.parse_args()
    config = read_config(arguments.config_dir, arguments.config_name)
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0:
        print("THIS IS A STAND-IN, NOT NEMO: no model is trained, all figures are made up.")
    seconds, memory = made_up_figures(config)
    limit = float(os.environ.get("NEMO_STAND_IN_MEMORY_GIB", "16"))
    if memory > limit:
        die_of_memory(rank, memory, limit)
    rng = random.Random(config["model"]["seed"])
    steps, batch = config["trainer"]["max_steps"], config["model"]["global_batch_size"]
    for step in range(1, steps + 1):
        time.sleep(float(os.environ.get("NEMO_STAND_IN_SLEEP_S", "0.05")))
        slow = 1.6 if step == 1 else 1.0
        timing = seconds * slow * rng.uniform(0.99, 1.01)
        if rank == 0:
            loss = 0.4 + 1.8 / step
            sys.stdout.write(bar(step, steps, timing, loss, step * batch))
            sys.stdout.flush()
    if rank == 0:
        print(f"\n`Trainer.fit` stopped: `max_steps={steps}` reached.", flush=True)


if __name__ == "__main__":
    main()
