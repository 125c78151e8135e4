"""The line a runner prints per optimizer step, and the memory figure in it.

One line, units in its names, on rank 0 only. `tokens` are true tokens (padding left out) of the
whole global batch; what a framework counts for itself may be anything else: DeepSpeed's
SamplesPerSec, for one, is too high by the tensor-parallel size.
"""

from __future__ import annotations

import resource

import torch


def peak_memory_gib() -> float:
    """Most device memory that PyTorch reserved so far, GiB; on a CPU, the process's peak RSS."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def step_line(step: int, steps: int, seconds: float, tokens: int, loss: float) -> str:
    """`step` counts from 1; `seconds` is the whole optimizer step with its accumulation."""
    return (
        f"step {step}/{steps} | loss {loss:.6f} | step_time_s {seconds:.6f} | tokens {tokens} | "
        f"tokens_per_s {tokens / seconds:.2f} | memory_gib {peak_memory_gib():.3f}"
    )
