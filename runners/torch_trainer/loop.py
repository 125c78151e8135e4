"""Why: the step is what gets measured, so data, synchronisation and memory are counted in it.

One line a step, printed by rank 0 (times of rank 0, memory the maximum over ranks):

    step 3/20 | loss 9.731045 | step_time_s 0.061230 | tokens 32768 | tokens_per_s 535162.5 |
    memory_gib 23.312 | reserved_gib 25.014

(on one line; autotune's log format `sft` reads it). ``tokens`` are the targets that all ranks
trained on in the step. A step's time runs from the end of the step before, the device
synchronised, so nothing hides between steps.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from step_profiler import step_profiler
from torch import nn

from torch_trainer.data import MockText
from torch_trainer.optimizer import build_optimizer
from torch_trainer.parallel import Ranks, accumulate, join_ranks, wrap

GIB = 2**30
CUDA_GRAPH_MODES = ("reduce-overhead", "max-autotune")


def train(flags: Any, build_model: Any) -> None:
    """Train ``build_model(flags)`` for ``flags.steps`` steps, printing one line for each."""
    torch.set_float32_matmul_precision(flags.matmul_precision)
    if flags.cpu_threads:
        torch.set_num_threads(flags.cpu_threads)
    ranks = join_ranks(flags)
    per_rank, rest = divmod(flags.global_batch_size, ranks.world_size)
    if rest or per_rank % flags.micro_batch_size:
        sys.exit(
            f"global_batch_size {flags.global_batch_size} is no multiple of micro_batch_size "
            f"{flags.micro_batch_size} times {ranks.world_size} ranks"
        )
    with ranks.device:
        model = build_model(flags)
    initialise(model, flags.seed)
    if ranks.rank == 0:
        count = sum(p.numel() for p in model.parameters())
        print(f"training on {_device_name(ranks)}, torch {torch.__version__}, {count} parameters")
    model = wrap(model, flags, ranks)
    try:
        _run_steps(model, flags, ranks, per_rank)
    finally:
        # DDP's reducer has to go first: as last holder of a gloo group it would wait, with the
        # interpreter's lock held, for a thread that waits for that lock.
        del model
        gc.collect()
        if dist.is_initialized():
            dist.destroy_process_group()


def initialise(model: nn.Module, seed: int) -> None:
    """Fill matrices from a normal law whose draws depend on seed, place and shape alone.

    A table padded to more rows keeps the draws of its true rows; padding rows are zero. Biases
    and norms stay as built. The standard deviation is the module's ``init_std`` (default 0.02).
    """
    for index, (_, module) in enumerate(model.named_modules()):
        weight = getattr(module, "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.dim() < 2:
            continue
        generator = torch.Generator(weight.device).manual_seed(seed * 100003 + index)
        rows = getattr(module, "true_rows", weight.shape[0])
        with torch.no_grad():
            weight.zero_()
            weight[:rows].normal_(0.0, getattr(module, "init_std", 0.02), generator=generator)


def _run_steps(model: nn.Module, flags: Any, ranks: Ranks, per_rank: int) -> None:
    optimizer = build_optimizer(model, flags)
    data = MockText(flags.vocab_size, flags.seq_length, flags.seed, flags.pin_memory)
    parameters = [p for p in model.parameters() if p.requires_grad]
    # A CUDA graph's outputs die with its next replay: gradients then need memory of their own.
    own_gradients = flags.compile and flags.compile_mode in CUDA_GRAPH_MODES
    if own_gradients:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
    tokens = flags.global_batch_size * flags.seq_length
    kind = None if flags.profiler == "none" else flags.profiler
    with step_profiler(kind, Path(flags.profile_dir), ranks.rank) as after_step:
        synchronise(ranks.device)
        previous = time.perf_counter()
        for step in range(1, flags.steps + 1):
            first = (step - 1) * flags.global_batch_size + ranks.rank * per_rank
            loss = _forward_backward(model, data, flags, ranks.device, first, per_rank)
            if flags.clip_grad:
                nn.utils.clip_grad_norm_(parameters, flags.clip_grad)
            optimizer.step()
            optimizer.zero_grad(set_to_none=not own_gradients)
            mean_loss = ranks.mean(loss)
            synchronise(ranks.device)
            now = time.perf_counter()
            _report(step, flags.steps, mean_loss, now - previous, tokens, ranks)
            after_step()
            previous = time.perf_counter() if kind else now


def _forward_backward(
    model: nn.Module, data: MockText, flags: Any, device: torch.device, first: int, per_rank: int
) -> torch.Tensor:
    """All micro batches of one step; returns this rank's mean loss, on the device."""
    size = flags.micro_batch_size
    count = per_rank // size
    total = torch.zeros((), device=device)
    for micro in range(count):
        inputs, targets = data.micro_batch(first + micro * size, size, device)
        with accumulate(model, reduce=micro == count - 1):
            if flags.compile:
                torch.compiler.cudagraph_mark_step_begin()
            with _autocast(flags, device):
                loss = model(inputs, targets) / count
            loss.backward()
        total += loss.detach()
    return total


def _autocast(flags: Any, device: torch.device) -> Any:
    if flags.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _report(step: int, steps: int, loss: float, seconds: float, tokens: int, ranks: Ranks) -> None:
    if ranks.device.type == "cuda":
        peak = ranks.maximum(torch.cuda.max_memory_allocated() / GIB)
        reserved = ranks.maximum(torch.cuda.max_memory_reserved() / GIB)
    else:
        peak = reserved = ranks.maximum(resident_peak_gib())
    if ranks.rank == 0:
        print(
            f"step {step}/{steps} | loss {loss:.6f} | step_time_s {seconds:.6f} | "
            f"tokens {tokens} | tokens_per_s {tokens / seconds:.1f} | "
            f"memory_gib {peak:.3f} | reserved_gib {reserved:.3f}",
            flush=True,
        )


def resident_peak_gib() -> float:
    """The process's largest resident size so far; what stands for device memory on a CPU."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(ranks: Ranks) -> str:
    if ranks.device.type == "cuda":
        return f"{ranks.world_size} x {torch.cuda.get_device_name(ranks.device)}"
    return f"{ranks.world_size} x CPU ({torch.get_num_threads()} threads)"
