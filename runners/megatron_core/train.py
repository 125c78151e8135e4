"""Trains a small GPT with megatron-core on mock tokens: pretrain_gpt.py's flags and log lines.

The wheel on PyPI holds `megatron.core` alone, so the loop is here: tensor, pipeline and virtual
pipeline parallelism, sequence parallelism, recomputation, the distributed optimizer and its
overlap. On GPUs it runs under NCCL; without any it runs under gloo with the device names
replaced (`cpu.py`), and says so. Start it once per rank with torchrun's variables:

    torchrun --nproc-per-node 2 runners/megatron_core/train.py --tensor-model-parallel-size 2 ...

What needs Transformer Engine, Apex or megatron.training (context parallelism, fp8, mixtures of
experts, fused kernels, checkpoints, real data) is refused with a sentence, never ignored.
"""

from __future__ import annotations

import argparse
import datetime
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from megatron_text import lines
from step_profiler import step_profiler

from megatron_core.arguments import arguments


def start(args: argparse.Namespace) -> torch.device:
    """Join the gang, set up the parallel groups and the seeds; the rank's device."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    else:
        from megatron_core.cpu import pretend_cuda

        device = torch.device("cpu")
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)
        pretend_cuda()
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29500")):
        os.environ.setdefault(name, value)
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        rank=int(os.environ.get("RANK", "0")),
        world_size=args.world_size,
        timeout=datetime.timedelta(minutes=args.distributed_timeout_minutes),
    )
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

    virtual = args.num_virtual_stages_per_pipeline_rank
    parallel_state.initialize_model_parallel(
        args.tensor_model_parallel_size,
        args.pipeline_model_parallel_size,
        virtual if virtual > 1 else None,
    )
    torch.manual_seed(args.seed)
    model_parallel_cuda_manual_seed(args.seed)
    return device


def forward_step(batches: Any, model: Any) -> tuple[torch.Tensor, Any]:
    """megatron-core's forward step: the output and how it becomes the mean loss of the tokens."""
    batch = next(batches)
    output = model(batch["tokens"], batch["position_ids"], None, labels=batch["labels"])

    def loss_of(losses: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = losses.float().mean()
        return loss, {"lm loss": loss.detach().clone()}

    return output, loss_of


def mean_loss(reports: list[dict[str, torch.Tensor]], device: torch.device) -> float:
    """Mean over micro batches and data-parallel ranks; every rank gets it."""
    from megatron.core import parallel_state

    total = torch.zeros(2, device=device)
    for report in reports:
        total += torch.stack([report["lm loss"].to(device), torch.ones((), device=device)])
    torch.distributed.all_reduce(total, group=parallel_state.get_data_parallel_group())
    if parallel_state.get_pipeline_model_parallel_world_size() > 1:
        source = parallel_state.get_pipeline_model_parallel_last_rank()
        group = parallel_state.get_pipeline_model_parallel_group()
        torch.distributed.broadcast(total, source, group=group)
    return float(total[0] / total[1])


def flops_per_step(args: argparse.Namespace) -> float:
    """Floating point operations of one step, forward and backward: Megatron-LM's formula.

    Narayanan et al. 2021 (arXiv:2104.04473), appendix, with grouped queries and gated MLPs.
    """
    hidden, layers, length = args.hidden_size, args.num_layers, args.seq_length
    head = args.kv_channels or hidden // args.num_attention_heads
    queries, groups = args.num_attention_heads * head, args.num_query_groups * head
    mlp = (3 if args.swiglu else 2) * hidden * args.ffn_hidden_size
    attention = hidden * (2 * queries + 2 * groups) + queries * length
    per_token = 6 * (layers * (attention + mlp) + hidden * args.vocab_size)
    return float(per_token * args.global_batch_size * length)


def report_memory(device: torch.device, step: int) -> None:
    """Megatron-LM's memory line; on a CPU the resident memory of the process."""
    rank = torch.distributed.get_rank()
    if device.type == "cuda":
        sizes = (
            torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated(),
            torch.cuda.max_memory_reserved(),
        )  # fmt: skip
    else:
        resident = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        sizes = (resident, resident, resident)
    print(lines.memory_line(rank, step, *map(float, sizes)), flush=True)


def train(args: argparse.Namespace, device: torch.device) -> None:
    """All steps; the last rank prints a line each, as Megatron-LM does."""
    from megatron.core import parallel_state
    from megatron.core.pipeline_parallel import get_forward_backward_func

    from megatron_core.data import batches
    from megatron_core.model import build_model, build_optimizer

    chunks = build_model(args, device)
    parameters = sum(p.numel() for chunk in chunks for p in chunk.parameters())
    if parallel_state.get_data_parallel_rank() == 0:
        place = (
            parallel_state.get_tensor_model_parallel_rank(),
            parallel_state.get_pipeline_model_parallel_rank(),
        )
        print(lines.parameter_line(*place, parameters), flush=True)
    optimizer = build_optimizer(args, chunks)
    data_rank = parallel_state.get_data_parallel_rank()
    streams = [batches(args, data_rank, device) for _ in chunks]
    run = get_forward_backward_func()
    is_last = torch.distributed.get_rank() == args.world_size - 1
    began = time.perf_counter()
    for step in profiled(args, range(1, args.train_iters + 1)):
        for chunk in chunks:
            chunk.zero_grad_buffer()
        optimizer.zero_grad()
        reports = run(
            forward_step_func=forward_step,
            data_iterator=streams if len(chunks) > 1 else streams[0],
            model=chunks if len(chunks) > 1 else chunks[0],
            num_microbatches=args.num_microbatches,
            seq_length=args.seq_length,
            micro_batch_size=args.micro_batch_size,
            decoder_seq_length=args.seq_length,
            forward_only=False,
        )
        _, grad_norm, _ = optimizer.step()
        loss = mean_loss(reports, device)
        now = time.perf_counter()
        seconds, began = now - began, now
        if is_last and step % args.log_interval == 0:
            rate = flops_per_step(args) / seconds / args.world_size / 1e12
            line = lines.iteration_line(args, step, seconds, loss, float(grad_norm), rate, args.lr)
            print(line, flush=True)
        if step <= 2:
            report_memory(device, step)


def profiled(args: argparse.Namespace, steps: Iterable[int]) -> Iterator[int]:
    """The steps; those that `--profile` asks for under its profiler, on every rank."""
    kind = ("torch" if args.use_pytorch_profiler else "nsys") if args.profile else None
    folder = Path(args.tensorboard_dir or "profile")
    with step_profiler(kind, folder, torch.distributed.get_rank()) as after_step:
        for step in steps:
            yield step
            after_step()


def main() -> None:
    """Train, and leave the gang in order."""
    warnings.filterwarnings("ignore", message=".*(Transformer Engine|Apex|absl).*")
    args = arguments()
    device = start(args)
    if torch.distributed.get_rank() == 0:
        if device.type == "cpu":
            print(
                "No GPU: megatron-core runs on CPU tensors under gloo, device names replaced; "
                "memory lines show the resident memory of the process.",
                flush=True,
            )
        print("\n".join(lines.opening_lines(args)), flush=True)
    train(args, device)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
