"""Runs the real pretrain_gpt.py of a checkout in this process, on CPU tensors under gloo.

    _megatron_on_cpu.py MEGATRON_DIR [flags of pretrain_gpt.py]

Device names are replaced as `runners/megatron_core/cpu.py` replaces them for megatron-core;
what megatron.training asks of CUDA besides (streams, memory statistics, properties) gets
nothing or a constant. Not real either: what `_megatron_probe.py` stubs, and core_v0.12's fused
kernels, which are not built.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from _megatron_probe import install_stubs

RUNNERS = Path(__file__).resolve().parents[1] / "runners"


class _Stream:
    """A CUDA stream or event that has nothing to wait for."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def pretend_training_gpu() -> None:
    """What megatron.training wants of CUDA beyond what megatron-core does."""
    import torch
    from megatron_core.cpu import pretend_cuda

    torch.set_num_threads(1)
    install_stubs()
    pretend_cuda()
    cuda: Any = torch.cuda
    cuda.is_available = lambda: True
    for name in ("Stream", "Event", "current_stream", "default_stream"):
        setattr(cuda, name, type(name, (_Stream,), {}))
    cuda.stream = lambda _: contextlib.nullcontext()
    for name in ("memory_allocated", "memory_reserved"):
        setattr(cuda, name, lambda *_: 0)
        setattr(cuda, f"max_{name}", lambda *_: 0)
    cuda.reset_peak_memory_stats = lambda *_: None
    distributed: Any = torch.distributed
    start, barrier = distributed.init_process_group, distributed.barrier
    distributed.barrier = lambda *groups, **_: barrier(*groups)
    distributed.init_process_group = lambda **given: start(
        **{k: v for k, v in given.items() if k not in ("device_id", "backend")}, backend="gloo"
    )


def main() -> None:
    """Become pretrain_gpt.py."""
    folder = Path(sys.argv[1]).resolve()
    sys.path[:0] = [str(RUNNERS), str(folder)]
    for name, value in (
        ("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29500"), ("CUDA_DEVICE_MAX_CONNECTIONS", "1"),
    ):  # fmt: skip
        os.environ.setdefault(name, value)
    pretend_training_gpu()
    with contextlib.suppress(ImportError):
        kernels: Any = importlib.import_module("megatron.legacy.fused_kernels")
        kernels.load = lambda _: None
    sys.argv = ["pretrain_gpt.py", *sys.argv[2:], "--distributed-backend", "gloo"]
    runpy.run_path(str(folder / "pretrain_gpt.py"), run_name="__main__")


if __name__ == "__main__":
    main()
