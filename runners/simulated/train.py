"""SIMULATED training: takes pretrain_gpt.py's flags, prints its log, uses no GPU.

One process stands for a whole cluster. Step times and memory come from `physics.py`; time runs
faster than the clock by ``--sim-time-compression``. A layout that does not fit dies as the real
program does, with torch's out-of-memory traceback on one rank and exit code 1. The first line
says that nothing of this was measured.

    python runners/simulated/train.py --sim-cluster cluster.json --sim-seed 3 \\
        --tensor-model-parallel-size 8 ... (the flags of pretrain_gpt.py)
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron_text import flags, lines

from autotune.space.cluster import Cluster
from simulated.death import CONTEXT_GIB, die_of_memory
from simulated.job import truth_of
from simulated.physics import Truth

START_UP_S = 18.0
COMPILE_S = 9.0
GIB = 1024.0**3


class Clock:
    """Simulated seconds: sleeping to a schedule, so that rounding never adds up."""

    def __init__(self, compression: float) -> None:
        self.compression = compression
        self.began = time.monotonic()
        self.now_s = 0.0

    def spend(self, seconds: float) -> None:
        """Let simulated seconds pass."""
        self.now_s += seconds
        wait = self.began + self.now_s / self.compression - time.monotonic()
        if wait > 0:
            time.sleep(wait)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Megatron-LM's flags and the ``--sim-*`` ones; AssertionError for an illegal layout."""
    parser = flags.megatron_parser("SIMULATED training: pretrain_gpt.py's flags, no GPU.")
    parser.add_argument("--sim-cluster", type=Path, required=True, help="JSON: nodes, GPUs, links")
    parser.add_argument("--sim-seed", type=int, default=0, help="draws the hidden effects")
    parser.add_argument("--sim-time-compression", type=float, default=1000.0)
    early, _ = parser.parse_known_args(argv)
    cluster = Cluster.model_validate_json(early.sim_cluster.read_text(encoding="utf-8"))
    args = flags.parse(parser, cluster.world_size, argv)
    if args.vocab_size is None:
        parser.error("--vocab-size: needed, since no tokenizer is read here")
    args.cluster = cluster
    return args


def stage_ranks(args: argparse.Namespace) -> dict[int, int]:
    """First global rank of each kind of pipeline stage that exists: 0 first, 1 middle, 2 last."""
    pipeline = args.pipeline_model_parallel_size
    each = args.world_size // pipeline
    ranks = {0: 0, 2: (pipeline - 1) * each}
    return ranks | ({1: each} if pipeline > 2 else {})


def speaking_ranks(args: argparse.Namespace) -> Iterator[tuple[int, int, int]]:
    """(tensor rank, pipeline rank, kind of stage) of all ranks of data-parallel rank 0."""
    last = args.pipeline_model_parallel_size - 1
    for pipeline_rank in range(last + 1):
        stage = 0 if pipeline_rank == 0 else 2 if pipeline_rank == last else 1
        for tensor_rank in range(args.tensor_model_parallel_size):
            yield tensor_rank, pipeline_rank, stage


def check_memory(args: argparse.Namespace, truth: Truth, clock: Clock) -> None:
    """Die where the real program would: building the model, or in the first step."""
    capacity = args.cluster.hardware.memory_gib
    ranks = stage_ranks(args)
    heaviest = max(ranks, key=lambda stage: float(truth.states_gib[0, stage]))
    states = float(truth.states_gib[0, heaviest]) + CONTEXT_GIB
    if states > capacity:
        die_of_memory(args, ranks[heaviest], states, "building the model")
    print("done with setup ...\ntraining ...", flush=True)
    fullest = max(ranks, key=lambda stage: float(truth.memory_gib[0, stage]))
    needed = float(truth.memory_gib[0, fullest])
    if needed > capacity:
        clock.spend(COMPILE_S)
        die_of_memory(args, ranks[fullest], needed, "the first step")


def loss_at(args: argparse.Namespace, step: int) -> float:
    """A plausible loss of a step: the same for every layout, up to rounding noise.

    From ln(vocabulary) down a power law; data noise depends on the training seed alone, and
    layouts differ in the fifth digit, as sums in another order do.
    """
    start = math.log(args.vocab_size) + 0.35
    trend = 1.9 + (start - 1.9) * (1.0 + step / 60.0) ** -0.45
    data = random.Random(args.seed * 100_003 + step).gauss(0.0, 0.012)
    layout = f"{args.tensor_model_parallel_size}/{args.pipeline_model_parallel_size}/{step}"
    return trend + data + random.Random(layout).gauss(0.0, 3e-5)


def step_seconds(median_s: float, noise: float, step: int, draw: random.Random) -> float:
    """One step's time: the first compiles and warms up, single ones are disturbed."""
    if step == 1:
        return median_s * draw.uniform(1.35, 1.7) + COMPILE_S * draw.uniform(0.8, 1.3)
    slow = 1.0 + 0.06 * (step == 2)
    disturbed = draw.uniform(1.05, 1.25) if draw.random() < 0.015 else 1.0
    return median_s * slow * disturbed * math.exp(draw.gauss(0.0, noise))


def report_memory(args: argparse.Namespace, truth: Truth, step: int) -> None:
    """Memory lines of the ranks that Megatron-LM lets speak: data-parallel rank 0."""
    each = args.world_size // args.pipeline_model_parallel_size
    for tensor_rank, pipeline_rank, stage in speaking_ranks(args):
        peak = (float(truth.memory_gib[0, stage]) - CONTEXT_GIB) * GIB
        held = float(truth.states_gib[0, stage]) * GIB
        rank = pipeline_rank * each + tensor_rank
        print(lines.memory_line(rank, step, held, peak, peak * 1.01), flush=True)


def main() -> None:
    """Run the simulated job to its end, or to its death."""
    args = arguments()
    print(
        "SIMULATED: no GPU is used and nothing is measured; times and memory come from "
        f"autotune's cost model plus hidden effects of seed {args.sim_seed}, "
        f"{args.sim_time_compression:g} simulated seconds pass in one.",
        flush=True,
    )
    clock = Clock(args.sim_time_compression)
    truth = truth_of(args)
    print("\n".join(lines.opening_lines(args)), flush=True)
    clock.spend(START_UP_S)
    print("building GPT model ...", flush=True)
    for tensor_rank, pipeline_rank, stage in speaking_ranks(args):
        count = round(float(truth.parameters[0, stage]))
        print(lines.parameter_line(tensor_rank, pipeline_rank, count), flush=True)
    check_memory(args, truth, clock)
    train(args, truth, clock)


def train(args: argparse.Namespace, truth: Truth, clock: Clock) -> None:
    """Print one line per log interval until ``--train-iters``.

    Jitter is drawn by seed, config and the name of the trial's folder: a study replays exactly,
    and the same config measured again in another trial gives other times.
    """
    config = [f"{name}={value}" for name, value in sorted(vars(args).items()) if name != "cluster"]
    place = args.sim_cluster.resolve().parent.name
    draw = random.Random("/".join([place, *(item for item in config if "sim_cluster" not in item)]))
    median_s, noise = float(truth.step_time_s[0]), truth.noise
    elapsed: list[float] = []
    print(f"[before the start of training step] datetime: {lines.timestamp()} ", flush=True)
    for step in range(1, args.train_iters + 1):
        seconds = step_seconds(median_s, noise, step, draw)
        clock.spend(seconds)
        elapsed.append(seconds)
        if step % args.log_interval and step > 1:
            continue
        mean = sum(elapsed) / len(elapsed)
        elapsed.clear()
        tflops = float(truth.tflops_per_gpu[0]) * median_s / mean
        grad_norm = 1.0 + 4.0 / math.sqrt(step)
        line = lines.iteration_line(
            args, step, mean, loss_at(args, step), grad_norm, tflops, args.lr
        )
        print(line, flush=True)
        if step == 1:
            report_memory(args, truth, step)
    print(f"[after training is done] datetime: {lines.timestamp()} ", flush=True)


if __name__ == "__main__":
    main()
