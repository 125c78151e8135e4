"""Why: the rungs of the ladder that replace a written-out formula by a native kernel."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class LayerNorm(nn.Module):
    """Layer normalisation over the last dimension (Ba et al. 2016, arXiv:1607.06450)."""

    def __init__(self, size: int, native: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.native = native

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.native:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias)
        x32 = x.float()
        mean = x32.mean(-1, keepdim=True)
        variance = (x32 - mean).pow(2).mean(-1, keepdim=True)
        return (x32 - mean) / torch.sqrt(variance + 1e-5) * self.weight + self.bias


class RMSNorm(nn.Module):
    """Root mean square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, size: int, native: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.native = native

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.native:
            return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-5)
        x32 = x.float()
        scale = torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + 1e-5)
        return (x32 * scale * self.weight).to(x.dtype)


def gelu(x: torch.Tensor, native: bool) -> torch.Tensor:
    """GELU in its tanh form (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    if native:
        return F.gelu(x, approximate="tanh")
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
    return 0.5 * x * (1.0 + torch.tanh(inner))


_KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


class CausalAttention(nn.Module):
    """Causal softmax attention over q [B, H, T, D] and k, v [B, G, T, D], G dividing H."""

    def __init__(self, backend: str, mask: str, seq_length: int) -> None:
        super().__init__()
        self.unfused = backend == "unfused"
        self.kernel = _KERNELS.get(backend)
        self.expand_groups = self.unfused or backend == "efficient"
        cached = torch.ones(seq_length, seq_length, dtype=torch.bool).tril()
        keep = self.unfused and mask == "buffer"
        self.register_buffer("mask", cached if keep else None, persistent=False)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        grouped = q.shape[1] != k.shape[1]
        if grouped and self.expand_groups:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
            grouped = False
        if not self.unfused:
            # Chosen here, not globally: the choice then is part of the graph that compilers cache.
            with nullcontext() if self.kernel is None else sdpa_kernel(self.kernel):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        length = q.shape[2]
        mask = self.mask
        if mask is None:
            mask = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~mask[:length, :length], float("-inf"))
        return F.softmax(scores, dim=-1).to(v.dtype) @ v
