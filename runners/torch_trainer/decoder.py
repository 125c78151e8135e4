"""Why: every decoder is a token table, blocks, a norm and a tied output layer around its blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from torch_trainer.loss import LanguageModelLoss
from torch_trainer.recompute import maybe_recompute


class Decoder(nn.Module):
    """What a model adds is how tokens become hidden states, and its kind of block and norm."""

    def __init__(
        self, flags: Any, block: Callable[[Any], nn.Module], norm: Callable[[int, bool], nn.Module]
    ) -> None:
        super().__init__()
        multiple = flags.make_vocab_size_divisible_by
        rows = -(-flags.vocab_size // multiple) * multiple
        self.tokens = nn.Embedding(rows, flags.hidden_size)
        self.tokens.true_rows = flags.vocab_size
        self.blocks = nn.ModuleList(block(flags) for _ in range(flags.num_layers))
        self.norm = norm(flags.hidden_size, flags.fused_normalization)
        self.loss = LanguageModelLoss(flags)
        self.residual_bf16 = flags.precision == "bf16" and flags.residual_dtype == "bf16"
        self.recompute = flags.recompute_granularity

    def loss_of(
        self, x: torch.Tensor, targets: torch.Tensor, *beside: torch.Tensor
    ) -> torch.Tensor:
        """Mean next-token loss from embedded x [B, T, d]; each block takes ``beside`` as well."""
        if self.residual_bf16:
            x = x.to(torch.bfloat16)
        for block in self.blocks:
            x = maybe_recompute(block, self.recompute, x, *beside)
        return self.loss(self.norm(x), self.tokens.weight, targets)
