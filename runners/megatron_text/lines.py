"""Megatron-LM's log lines, word for word: what parsers of real logs have to read.

Formats as printed by `training_log`, `report_memory` and `setup` of core_v0.12 and later.
"""

from __future__ import annotations

import argparse
from datetime import datetime


def timestamp() -> str:
    """Local time in the form of Megatron-LM's lines."""
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")


def iteration_line(
    args: argparse.Namespace,
    step: int,
    seconds: float,
    loss: float,
    grad_norm: float,
    tflops_per_gpu: float,
    lr: float,
) -> str:
    """The line of one step (from 1); ``seconds`` is the step's time."""  # fmt: skip
    throughput = f" throughput per GPU (TFLOP/s/GPU): {tflops_per_gpu:.1f} |"
    return (
        f" [{timestamp()}] iteration {step:8d}/{args.train_iters:8d} |"
        f" consumed samples: {step * args.global_batch_size:12d} |"
        f" elapsed time per iteration (ms): {seconds * 1000.0:.1f} |"
        f"{throughput if args.log_throughput else ''}"
        f" learning rate: {lr:.6E} |"
        f" global batch size: {args.global_batch_size:5d} |"
        f" lm loss: {loss:.6E} |"
        f" loss scale: 1.0 |"
        f" grad norm: {grad_norm:.3f} |"
        f" number of skipped iterations: {0:3d} |"
        f" number of nan iterations: {0:3d} |"
    )


def memory_line(rank: int, step: int, allocated: float, peak: float, reserved: float) -> str:
    """What one rank reports after a step; all sizes in bytes."""
    mega = 1024.0 * 1024.0
    return (
        f"[Rank {rank}] (after {step} iterations) memory (MB) |"
        f" allocated: {allocated / mega} | max allocated: {peak / mega} |"
        f" reserved: {reserved / mega} | max reserved: {reserved / mega}"
    )


def parameter_line(tensor_rank: int, pipeline_rank: int, parameters: int) -> str:
    """How many parameters one model-parallel rank holds."""
    return (
        f" > number of parameters on (tensor, pipeline) model parallel rank "
        f"({tensor_rank}, {pipeline_rank}): {parameters}"
    )


def opening_lines(args: argparse.Namespace) -> list[str]:
    """What rank 0 prints before the model is built."""
    virtual = args.num_virtual_stages_per_pipeline_rank
    return [
        f"using world size: {args.world_size}, data-parallel size: {args.data_parallel_size}, "
        f"context-parallel size: {args.context_parallel_size}, "
        "hierarchical context-parallel sizes: None, "
        f"tensor-model-parallel size: {args.tensor_model_parallel_size}, "
        f"pipeline-model-parallel size: {args.pipeline_model_parallel_size}",
        f"Number of virtual stages per pipeline stage: {virtual if virtual > 1 else None}",
        f"using torch.{precision_name(args)} for parameters ...",
        *_argument_lines(args),
        f"setting number of microbatches to constant {args.num_microbatches}",
    ]


def _argument_lines(args: argparse.Namespace) -> list[str]:
    names = sorted(vars(args), key=str.lower)
    listed = [f"  {name} {'.' * (48 - len(name))} {getattr(args, name)}" for name in names]
    return [
        "------------------------ arguments ------------------------",
        *listed,
        "-------------------- end of arguments ---------------------",
    ]


def precision_name(args: argparse.Namespace) -> str:
    """torch's name of the parameters' type."""
    if args.bf16:
        return "bfloat16"
    return "float16" if args.fp16 else "float32"
