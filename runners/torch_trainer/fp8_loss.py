"""Why: the output layer's three products are a third of a small model's work; Hopper's tensor
cores do float8 at twice the rate of bf16.

Weights and hidden states go in as float8_e4m3 with one scale a tensor, the gradient of the
logits as float8_e5m2, as Micikevicius et al. 2022 (arXiv:2209.05433) assign the two formats.
"""

from __future__ import annotations

from typing import Any

import torch

from torch_trainer.triton_loss import FP8_GRADIENT_SCALE, fp8_loss_and_gradient

E4M3_MAX = 448.0


def _to_fp8(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``x`` as float8_e4m3 and the fp32 scale that restores it."""
    scale = x.abs().amax().float().clamp(min=1e-12) / E4M3_MAX
    return (x / scale.to(x.dtype)).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn), scale


def _by_column(x: torch.Tensor) -> torch.Tensor:
    """The same matrix, laid out by columns."""
    return x.t().contiguous().t()


class Fp8LinearCrossEntropy(torch.autograd.Function):
    """Mean loss of bf16 hidden [N, d] through weight [V, d], V and N's chunks multiples of 16."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        vocab_size: int,
        chunks: int,
    ) -> torch.Tensor:
        w8, w_scale = _to_fp8(weight.to(torch.bfloat16))
        w8_by_column = _by_column(w8)
        total = torch.zeros((), device=hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        mean = 1.0 / hidden.shape[0]
        g_scale = torch.full((), mean / FP8_GRADIENT_SCALE, device=hidden.device)
        pieces = zip(
            hidden.chunk(chunks), targets.chunk(chunks), grad_hidden.chunk(chunks), strict=True
        )
        for h, t, out in pieces:
            h8, h_scale = _to_fp8(h)
            logits = torch._scaled_mm(
                h8, w8.t(), h_scale, w_scale, out_dtype=torch.bfloat16, use_fast_accum=True
            )
            loss, g8, g8_turned = fp8_loss_and_gradient(logits, t, vocab_size)
            total += loss
            out.copy_(
                torch._scaled_mm(g8, w8_by_column, g_scale, w_scale, out_dtype=torch.bfloat16)
            )
            grad_weight += torch._scaled_mm(
                g8_turned, _by_column(h8), g_scale, h_scale, out_dtype=torch.float32
            )
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        return total * mean

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scaled = grad_hidden * grad_output.to(grad_hidden.dtype)
        return scaled, grad_weight * grad_output, None, None, None
