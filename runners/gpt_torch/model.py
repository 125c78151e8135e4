"""Why: GPT-2 (Radford et al. 2019) small enough to read, with each rung of the ladder a flag."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch_trainer.decoder import Decoder
from torch_trainer.ops import CausalAttention, LayerNorm, gelu


class Block(nn.Module):
    """One pre-norm transformer layer with biases, as GPT-2 has it."""

    def __init__(self, flags: Any) -> None:
        super().__init__()
        size = flags.hidden_size
        self.heads = flags.num_attention_heads
        self.fused_gelu = flags.fused_gelu
        self.norm1 = LayerNorm(size, flags.fused_normalization)
        self.qkv = nn.Linear(size, 3 * size)
        self.attention = CausalAttention(
            flags.attention_backend, flags.causal_mask, flags.seq_length
        )
        self.project = nn.Linear(size, size)
        self.norm2 = LayerNorm(size, flags.fused_normalization)
        self.up = nn.Linear(size, flags.ffn_hidden_size)
        self.down = nn.Linear(flags.ffn_hidden_size, size)
        for linear in (self.project, self.down):
            linear.init_std = 0.02 / math.sqrt(2 * flags.num_layers)
        for linear in (self.qkv, self.project, self.up, self.down):
            nn.init.zeros_(linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, size = x.shape
        split = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, size // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = self.attention(q, k, v).transpose(1, 2).reshape(batch, length, size)
        x = x + self.project(mixed)
        return x + self.down(gelu(self.up(self.norm2(x)), self.fused_gelu))


class GPT(Decoder):
    """GPT-2 with learned positions and an output layer tied to the token table."""

    def __init__(self, flags: Any) -> None:
        super().__init__(flags, Block, LayerNorm)
        self.positions = nn.Embedding(flags.seq_length, flags.hidden_size)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean next-token loss of inputs [B, T] against targets [B, T]."""
        places = torch.arange(inputs.shape[1], device=inputs.device)
        return self.loss_of(self.tokens(inputs) + self.positions(places), targets)


MODEL = GPT
