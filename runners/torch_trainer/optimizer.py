"""Why: AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) costs what its implementation costs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "for_loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def build_optimizer(model: nn.Module, flags: Any) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only, as GPT-2 and Llama are trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=flags.learning_rate,
        betas=(0.9, 0.95),
        **_IMPLEMENTATIONS[flags.optimizer_implementation],
    )
