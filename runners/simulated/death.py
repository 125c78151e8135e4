"""How a rank that ran out of GPU memory dies: torch's words, Megatron-LM's stack, exit code 1."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

CONTEXT_GIB = 1.0
"""What CUDA, NCCL and the driver hold outside of torch's allocator."""

_STACKS = {
    "building the model": (
        ("pretrain_gpt.py", 305, "<module>", "pretrain("),
        (
            "megatron/training/training.py", 731, "pretrain",
            "model, optimizer, opt_param_scheduler = setup_model_and_optimizer(",
        ),
        (
            "megatron/core/distributed/param_and_grad_buffer.py", 652, "__init__",
            "self.grad_data = torch.zeros(",
        ),
    ),
    "the first step": (
        ("pretrain_gpt.py", 305, "<module>", "pretrain("),
        (
            "megatron/training/training.py", 1337, "train_step",
            "losses_reduced = forward_backward_func(",
        ),
        (
            "megatron/core/transformer/mlp.py", 141, "forward",
            "intermediate_parallel, bias_parallel = self.linear_fc1(hidden_states)",
        ),
    ),
}  # fmt: skip


def die_of_memory(args: argparse.Namespace, rank: int, needed_gib: float, during: str) -> NoReturn:
    """Print what torch prints on the rank that ran out, and exit with 1.

    ``needed_gib`` is what the rank would have needed; ``during`` a key of the stacks above.
    """
    capacity = args.cluster.hardware.memory_gib
    piece = min(max(0.02 * needed_gib, 0.25), 8.0)
    free = 0.4 * piece
    used = capacity - free
    unallocated = 0.02 * used
    allocated = used - CONTEXT_GIB - unallocated
    mark = f"[rank{rank}]: "
    text = [f"{mark}Traceback (most recent call last):"]
    for path, line, function, code in _STACKS[during]:
        text.append(f'{mark}  File "/opt/Megatron-LM/{path}", line {line}, in {function}')
        text.append(f"{mark}    {code}")
    text.append(
        f"{mark}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {piece:.2f} GiB. "
        f"GPU {rank % args.cluster.gpus_per_node} has a total capacity of {capacity:.2f} GiB "
        f"of which {free:.2f} GiB is free. Including non-PyTorch memory, this process has "
        f"{used:.2f} GiB memory in use. Of the allocated memory {allocated:.2f} GiB is allocated "
        f"by PyTorch, and {unallocated:.2f} GiB is reserved by PyTorch but unallocated. If "
        "reserved but unallocated memory is large try setting "
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See "
        "documentation for Memory Management  "
        "(https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
    )
    print("\n".join(text), file=sys.stderr, flush=True)
    sys.exit(1)
