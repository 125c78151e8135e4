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
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron_text import flags, lines  # noqa: E402

START_UP_S = 18.0
COMPILE_S = 9.0
GIB = 1024.0**3
CONTEXT_GIB = 1.0
"""What CUDA, NCCL and the driver hold outside of torch's allocator."""


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
    parser = flags.megatron_parser(__doc__.splitlines()[0])
    parser.add_argument("--sim-cluster", type=Path, required=True, help="JSON: nodes, GPUs, links")
    parser.add_argument("--sim-seed", type=int, default=0, help="draws the hidden effects")
    parser.add_argument("--sim-time-compression", type=float, default=1000.0)
    early, _ = parser.parse_known_args(argv)
    cluster = _read_cluster(early.sim_cluster)
    args = flags.parse(parser, cluster.world_size, argv)
    args.cluster = cluster
    return args


def _read_cluster(path: Path):  # noqa: ANN202  (its type is imported only here)
    from autotune.space.cluster import Cluster

    return Cluster.model_validate_json(path.read_text(encoding="utf-8"))


def truth_of(args: argparse.Namespace):  # noqa: ANN202
    """What really happens with these flags: a `physics.Truth` of one row."""
    from autotune.costmodel.model import CostModel
    from autotune.costmodel.workload import Workload
    from physics import true_step_time_and_memory

    workload = Workload(
        global_batch_size=args.global_batch_size,
        seq_length=args.seq_length,
        precision="fp8" if args.fp8_format else lines.precision_name(args),
        optimizer=args.optimizer,
        framework="megatron",
    )
    model = CostModel(_shape(args), args.cluster, workload)
    return true_step_time_and_memory(model, _columns(args), args.sim_seed)


def _shape(args: argparse.Namespace):  # noqa: ANN202
    from autotune.space.model import ModelShape

    frequency = args.moe_layer_freq
    dense = int(frequency.split("*")[1].split("+")[0]) if "*" in frequency else 0
    return ModelShape(
        num_layers=args.num_layers,
        hidden_size=args.hidden_size,
        ffn_hidden_size=args.ffn_hidden_size or 4 * args.hidden_size,
        num_attention_heads=args.num_attention_heads,
        num_query_groups=args.num_query_groups,
        kv_channels=args.kv_channels,
        vocab_size=args.vocab_size or 128_000,
        max_position_embeddings=args.max_position_embeddings,
        position_embedding_type=args.position_embedding_type,
        gated_linear_unit=args.swiglu,
        tie_embeddings=not args.untie_embeddings_and_output_weights,
        add_bias_linear=not args.disable_bias_linear,
        add_qkv_bias=args.add_qkv_bias,
        normalization=args.normalization,
        rotary_base=args.rotary_base,
        num_experts=args.num_experts,
        moe_router_topk=args.moe_router_topk if args.num_experts else 1,
        moe_ffn_hidden_size=args.moe_ffn_hidden_size,
        moe_shared_expert_intermediate_size=args.moe_shared_expert_intermediate_size,
        moe_layer_freq=1 if dense else int(frequency),
        moe_first_dense_layers=dense,
        q_lora_rank=args.q_lora_rank,
        kv_lora_rank=args.kv_lora_rank,
        qk_head_dim=args.qk_head_dim,
        qk_pos_emb_head_dim=args.qk_pos_emb_head_dim,
        v_head_dim=args.v_head_dim,
    )


def _columns(args: argparse.Namespace) -> dict[str, list[object]]:
    values = {
        "tensor_model_parallel_size": args.tensor_model_parallel_size,
        "pipeline_model_parallel_size": args.pipeline_model_parallel_size,
        "virtual_pipeline_model_parallel_size": args.num_virtual_stages_per_pipeline_rank,
        "context_parallel_size": args.context_parallel_size,
        "expert_model_parallel_size": args.expert_model_parallel_size,
        "micro_batch_size": args.micro_batch_size,
        "sequence_parallel": args.sequence_parallel,
        "recompute_granularity": args.recompute_granularity or "none",
        "recompute_method": args.recompute_method or "uniform",
        "recompute_num_layers": args.recompute_num_layers or 0,
        "use_distributed_optimizer": args.use_distributed_optimizer,
        "overlap_grad_reduce": args.overlap_grad_reduce,
        "overlap_param_gather": args.overlap_param_gather,
        "empty_unused_memory_level": args.empty_unused_memory_level,
        "tp_comm_overlap": args.tp_comm_overlap,
        "optimizer_cpu_offload": args.optimizer_cpu_offload,
        "attention_backend": "flash"
        if args.attention_backend == "auto"
        else args.attention_backend,
    }
    return {name: [value] for name, value in values.items()}


def stage_row(pipeline_rank: int, pipeline_size: int) -> int:
    """Which of (first, middle, last) a pipeline rank is."""
    if pipeline_rank == 0:
        return 0
    return 2 if pipeline_rank == pipeline_size - 1 else 1


def die_of_memory(args: argparse.Namespace, truth, stage: int, during: str) -> NoReturn:  # noqa: ANN001
    """Print what torch prints on the rank that ran out, and exit with 1."""
    pipeline = args.pipeline_model_parallel_size
    pipeline_rank = {0: 0, 1: min(1, pipeline - 1), 2: pipeline - 1}[stage]
    rank = pipeline_rank * (args.world_size // pipeline)
    capacity = args.cluster.hardware.memory_gib
    needed = float(truth.memory_gib[0, stage])
    piece = min(max(0.02 * needed, 0.25), 8.0)
    free = 0.4 * piece
    used = capacity - free
    allocated = used - CONTEXT_GIB - 0.02 * used
    source = {
        "building the model": (
            ("pretrain_gpt.py", 305, "<module>", "pretrain("),
            ("megatron/training/training.py", 731, "pretrain",
             "model, optimizer, opt_param_scheduler = setup_model_and_optimizer("),
            ("megatron/core/distributed/param_and_grad_buffer.py", 652, "__init__",
             "self.grad_data = torch.zeros("),
        ),
        "the first step": (
            ("pretrain_gpt.py", 305, "<module>", "pretrain("),
            ("megatron/training/training.py", 1337, "train_step",
             "losses_reduced = forward_backward_func("),
            ("megatron/core/transformer/mlp.py", 141, "forward",
             "intermediate_parallel, bias_parallel = self.linear_fc1(hidden_states)"),
        ),
    }[during]  # fmt: skip
    mark = f"[rank{rank}]: "
    text = [f"{mark}Traceback (most recent call last):"]
    for path, line, function, code in source:
        text.append(f'{mark}  File "/opt/Megatron-LM/{path}", line {line}, in {function}')
        text.append(f"{mark}    {code}")
    text.append(
        f"{mark}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {piece:.2f} GiB. "
        f"GPU {rank % args.cluster.gpus_per_node} has a total capacity of {capacity:.2f} GiB "
        f"of which {free:.2f} GiB is free. Including non-PyTorch memory, this process has "
        f"{used:.2f} GiB memory in use. Of the allocated memory {allocated:.2f} GiB is allocated "
        f"by PyTorch, and {used - CONTEXT_GIB - allocated:.2f} GiB is reserved by PyTorch but "
        "unallocated. If reserved but unallocated memory is large try setting "
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See "
        "documentation for Memory Management  "
        "(https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
    )
    print("\n".join(text), file=sys.stderr, flush=True)
    sys.exit(1)


def loss_at(args: argparse.Namespace, step: int) -> float:
    """A plausible loss of a step: the same for every layout, up to rounding noise.

    From ln(vocabulary) down a power law; data noise depends on the training seed alone, and
    layouts differ in the fifth digit, as sums in another order do.
    """
    start = math.log(args.vocab_size or 128_000) + 0.35
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


def report_memory(args: argparse.Namespace, truth, step: int) -> None:  # noqa: ANN001
    """Memory lines of the ranks that Megatron-LM lets speak: data-parallel rank 0."""
    pipeline, tensor = args.pipeline_model_parallel_size, args.tensor_model_parallel_size
    for pipeline_rank in range(pipeline):
        stage = stage_row(pipeline_rank, pipeline)
        peak = (float(truth.memory_gib[0, stage]) - CONTEXT_GIB) * GIB
        held = float(truth.states_gib[0, stage]) * GIB
        for tensor_rank in range(tensor):
            rank = pipeline_rank * (args.world_size // pipeline) + tensor_rank
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
    capacity = args.cluster.hardware.memory_gib
    stages = {stage_row(k, args.pipeline_model_parallel_size) for k in (0, 1, 10**6)
              if k < args.pipeline_model_parallel_size or k == 10**6}  # fmt: skip
    fullest = max(stages, key=lambda stage: float(truth.memory_gib[0, stage]))
    if truth.states_gib[0].max() + CONTEXT_GIB > capacity:
        die_of_memory(args, truth, int(truth.states_gib[0].argmax()), "building the model")
    print("done with setup ...\ntraining ...", flush=True)
    if truth.memory_gib[0, fullest] > capacity:
        clock.spend(COMPILE_S)
        die_of_memory(args, truth, fullest, "the first step")
    train(args, truth, clock)


def train(args: argparse.Namespace, truth, clock: Clock) -> None:  # noqa: ANN001
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
