"""Why: at a vocabulary of 50k or more the logits are the largest tensor of a step.

``full`` builds them whole, as everybody does. ``chunked`` computes loss and gradient chunk by
chunk in the forward pass (the idea of Wijmans et al. 2024, arXiv:2411.09009, and of Liger
kernels, arXiv:2410.10989), so that no chunk's logits outlive it and fp32 logits never exist.
``fused`` does the same with one Triton kernel that reads a row of logits from device memory once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

FP8_MAX = 448.0  # largest finite torch.float8_e4m3fn


def full_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, vocab_size: int
) -> torch.Tensor:
    """Mean loss of hidden [N, d] against targets [N]; ``weight`` [V, d] may hold padding rows."""
    logits = F.linear(hidden, weight).float()
    if weight.shape[0] > vocab_size:
        padding = torch.arange(weight.shape[0], device=logits.device) >= vocab_size
        logits = logits.masked_fill(padding, float("-inf"))
    return F.cross_entropy(logits, targets)


def _loss_and_gradient(
    logits: torch.Tensor, targets: torch.Tensor, vocab_size: int, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed loss of one chunk and d(loss)/d(logits) * scale, in the logits' dtype."""
    columns = torch.arange(logits.shape[1], device=logits.device)
    x = logits.float().masked_fill(columns >= vocab_size, float("-inf"))
    log_z = torch.logsumexp(x, dim=-1, keepdim=True)
    picked = x.gather(1, targets.unsqueeze(1))
    hit = columns == targets.unsqueeze(1)
    gradient = (torch.exp(x - log_z) - hit.to(x.dtype)) * scale
    return (log_z - picked).sum(), gradient.to(logits.dtype)


def _to_fp8(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``x`` as float8 and the fp32 scale that restores it."""
    scale = x.abs().amax().float().clamp(min=1e-12) / FP8_MAX
    return (x.float() / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale


def _weight_gradient(gradient: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    if gradient.is_cuda and gradient.dtype == torch.bfloat16:
        return torch.mm(gradient.t(), hidden, out_dtype=torch.float32)
    return (gradient.t() @ hidden).float()


class _ChunkedLinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        vocab_size: int,
        chunks: int,
        fp8: bool,
        kernel: Any,
    ) -> torch.Tensor:
        compute = hidden.dtype
        w = weight.to(compute)
        w8, w_scale = _to_fp8(w) if fp8 else (None, None)
        total = torch.zeros((), device=hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        scale = 1.0 / hidden.shape[0]
        pieces = zip(
            hidden.chunk(chunks), targets.chunk(chunks), grad_hidden.chunk(chunks), strict=True
        )
        for h, t, out in pieces:
            if fp8:
                h8, h_scale = _to_fp8(h)
                logits = torch._scaled_mm(h8, w8.t(), h_scale, w_scale, out_dtype=compute)
            else:
                logits = h @ w.t()
            loss, gradient = kernel(logits, t, vocab_size, scale)
            total += loss
            torch.mm(gradient, w, out=out)
            grad_weight += _weight_gradient(gradient, h)
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        return total * scale

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scaled = grad_hidden * grad_output.to(grad_hidden.dtype)
        return scaled, grad_weight * grad_output, None, None, None, None, None


class LanguageModelLoss:
    """The mean next-token loss of the last hidden states; one object per model."""

    def __init__(self, flags: Any) -> None:
        self.vocab_size = flags.vocab_size
        self.chunks = flags.cross_entropy_chunks if flags.cross_entropy != "full" else 0
        self.fp8 = flags.lm_head_precision == "fp8"
        self.kernel: Any = _loss_and_gradient
        if flags.cross_entropy == "fused":
            from torch_trainer.triton_loss import fused_loss_and_gradient

            self.kernel = fused_loss_and_gradient
        elif flags.compile:
            self.kernel = torch.compile(_loss_and_gradient, dynamic=False)

    def __call__(
        self, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """Mean loss of hidden [B, T, d] against targets [B, T] through ``weight`` [V, d]."""
        hidden, targets = hidden.flatten(0, 1), targets.flatten()
        if not self.chunks:
            return full_cross_entropy(hidden, weight, targets, self.vocab_size)
        return self._chunked(hidden, weight, targets)

    @torch.compiler.disable
    def _chunked(
        self, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        if torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        with torch.autocast(hidden.device.type, enabled=False):
            return _ChunkedLinearCrossEntropy.apply(
                hidden, weight, targets, self.vocab_size, self.chunks, self.fp8, self.kernel
            )
