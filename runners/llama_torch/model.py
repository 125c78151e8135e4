"""Why: a Llama (Touvron et al. 2023), 3.2-1B by default, with fine-tuning's choices as flags."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch_trainer.decoder import Decoder
from torch_trainer.ops import CausalAttention, RMSNorm


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864) on x [B, H, T, D], halves paired."""
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).to(x.dtype)


class Block(nn.Module):
    """One pre-norm layer: grouped-query attention and a gated feed-forward, no biases."""

    def __init__(self, flags: Any) -> None:
        super().__init__()
        size = flags.hidden_size
        self.heads, self.groups = flags.num_attention_heads, flags.num_query_groups
        self.head_dim = size // self.heads
        kv_size = self.groups * self.head_dim
        self.split = (size, kv_size, kv_size)
        self.norm1 = RMSNorm(size, flags.fused_normalization)
        self.qkv = nn.Linear(size, sum(self.split), bias=False)
        self.attention = CausalAttention(
            flags.attention_backend, flags.causal_mask, flags.seq_length
        )
        self.project = nn.Linear(size, size, bias=False)
        self.norm2 = RMSNorm(size, flags.fused_normalization)
        self.gate_up = nn.Linear(size, 2 * flags.ffn_hidden_size, bias=False)
        self.down = nn.Linear(flags.ffn_hidden_size, size, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        batch, length, size = x.shape
        q, k, v = (
            part.view(batch, length, -1, self.head_dim).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(self.split, dim=-1)
        )
        mixed = self.attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, length, size))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Llama(Decoder):
    """Decoder with rotary positions and an output layer tied to the token table (as in 3.2-1B)."""

    def __init__(self, flags: Any) -> None:
        super().__init__(flags, Block, RMSNorm)
        head_dim = flags.hidden_size // flags.num_attention_heads
        rates = flags.rotary_base ** (-torch.arange(0, head_dim, 2) / head_dim)
        angles = torch.outer(torch.arange(flags.seq_length), rates)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean next-token loss of inputs [B, T] against targets [B, T]."""
        length = inputs.shape[1]
        return self.loss_of(self.tokens(inputs), targets, self.cos[:length], self.sin[:length])


MODEL = Llama
