"""Lets megatron-core, which names CUDA everywhere, run on CPU tensors under gloo.

Only names of devices are replaced, no arithmetic: what asks for ``cuda`` gets the CPU, what
asks for CUDA to synchronise or to mark a range gets nothing, CUDA's random state is the CPU's,
and `Tensor.type()` says ``torch.cuda.*``, since megatron-core's optimizers compare that string.
Used in the process of a trial only, and never where there is a GPU.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch

CPU = torch.device("cpu")
FACTORIES = (
    "arange", "empty", "empty_like", "full", "ones", "ones_like", "rand", "randint", "randn",
    "tensor", "zeros", "zeros_like",
)  # fmt: skip
"""Functions of torch that take ``device``: a mode would be simpler, but is off in backward."""


def _on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def create(*args: Any, **kwargs: Any) -> Any:
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = CPU
        return function(*args, **kwargs)

    return create


def _named_cuda(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def type_of(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        found = function(tensor, *args, **kwargs)
        return found.replace("torch.", "torch.cuda.", 1) if isinstance(found, str) else found

    return type_of


def _nothing() -> Callable[..., None]:
    return lambda *_, **__: None


def pretend_cuda() -> None:
    """Install the replacements in this process; call it before megatron-core is imported.

    torch.compile is switched off too. Each name gets a function of its own, since torch keeps
    a table of them and refuses to list one twice.
    """
    torch.compile = lambda function=None, **_: function or (lambda inner: inner)
    for name in FACTORIES:
        setattr(torch, name, _on_cpu(getattr(torch, name)))
    tensor: Any = torch.Tensor
    tensor.type = _named_cuda(tensor.type)
    tensor.cuda = lambda self, *_, **__: self
    cuda: Any = torch.cuda
    cuda.current_device = lambda: CPU
    cuda.device_count = lambda: 1
    for name in ("synchronize", "empty_cache", "set_device", "_lazy_init"):
        setattr(cuda, name, _nothing())
    cuda.nvtx.range_push, cuda.nvtx.range_pop = _nothing(), _nothing()
    cuda.manual_seed = lambda seed: torch.manual_seed(seed)
    cuda.get_rng_state = lambda *_, **__: torch.get_rng_state()
    cuda.set_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
    cuda._lazy_call = lambda function, **_: function()
    cuda.device = lambda _: contextlib.nullcontext()

    from megatron.core.tensor_parallel import random as core_random

    core_random._get_cuda_rng_state = lambda *_, **__: torch.get_rng_state()
    core_random._set_cuda_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
