"""Why: a layout must not change what is learned, so every layout must see the same samples.

Mock text: token ranks follow Zipf's law (log-uniform draws), so that embedding gradients
collide as they do in real text and the loss falls from its first steps.
"""

from __future__ import annotations

import torch

POOL_SAMPLES = 1024


class MockText:
    """Batches of mock token sequences; sample ``i`` is the same for a seed under any layout."""

    def __init__(self, vocab_size: int, seq_length: int, seed: int, pin_memory: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.rand(POOL_SAMPLES, seq_length + 1, generator=generator)
        self._pool = (vocab_size**draws).long().sub_(1).clamp_(0, vocab_size - 1)
        self._pin_memory = pin_memory

    def micro_batch(
        self, first_sample: int, size: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets [size, seq_length], from ``first_sample`` on; the pool repeats."""
        rows = torch.arange(first_sample, first_sample + size) % POOL_SAMPLES
        batch = self._pool[rows]
        if self._pin_memory and device.type == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(device, non_blocking=self._pin_memory)
        return batch[:, :-1], batch[:, 1:]
