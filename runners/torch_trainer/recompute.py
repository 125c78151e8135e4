"""Why: activations that are recomputed in the backward pass need not be kept (arXiv:1604.06174)."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

_aten = torch.ops.aten
_EXPENSIVE = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
}


def _keep_expensive(_: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    if operator in _EXPENSIVE:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def maybe_recompute(block: nn.Module, granularity: str, *inputs: torch.Tensor) -> torch.Tensor:
    """``block(*inputs)``, keeping what ``granularity`` (none, selective, full) says."""
    if granularity == "none":
        return block(*inputs)
    if granularity == "full":
        return checkpoint(block, *inputs, use_reentrant=False)
    contexts = functools.partial(create_selective_checkpoint_contexts, _keep_expensive)
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)
