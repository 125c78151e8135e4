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
        kernel: Any,
    ) -> torch.Tensor:
        compute = hidden.dtype
        w = weight.to(compute)
        total = torch.zeros((), device=hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        scale = 1.0 / hidden.shape[0]
        pieces = zip(
            hidden.chunk(chunks), targets.chunk(chunks), grad_hidden.chunk(chunks), strict=True
        )
        for h, t, out in pieces:
            loss, gradient = kernel(h @ w.t(), t, vocab_size, scale)
            total += loss
            torch.mm(gradient, w, out=out)
            grad_weight += _weight_gradient(gradient, h)
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        return total * scale

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scaled = grad_hidden * grad_output.to(grad_hidden.dtype)
        return scaled, grad_weight * grad_output, None, None, None, None


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
        return self._in_chunks(hidden, weight, targets)

    @torch.compiler.disable
    def _in_chunks(
        self, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        kind = hidden.device.type
        if torch.is_autocast_enabled(kind):
            hidden = hidden.to(torch.get_autocast_dtype(kind))
        with torch.autocast(kind, enabled=False):
            if self.fp8:
                from torch_trainer.fp8_loss import Fp8LinearCrossEntropy

                return Fp8LinearCrossEntropy.apply(
                    hidden, weight, targets, self.vocab_size, self.chunks
                )
            return _ChunkedLinearCrossEntropy.apply(
                hidden, weight, targets, self.vocab_size, self.chunks, self.kernel
            )
