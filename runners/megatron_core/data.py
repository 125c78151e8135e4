"""Mock tokens that depend on the seed and the sample's place in training, on nothing else.

Whatever the layout, step and sample get the same tokens, so that losses can be compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch


def sample(args: argparse.Namespace, index: int) -> torch.Tensor:
    """Tokens (seq_length + 1,) of the sample with a global index: a noisy repeating walk.

    Half of the tokens follow from the one before, so that there is something to learn.
    """
    generator = torch.Generator().manual_seed(args.seed * 1_000_003 + index)
    size = args.seq_length + 1
    noise = torch.randint(0, args.vocab_size, (size,), generator=generator)
    walk = (noise[0] + 7 * torch.arange(size)) % args.vocab_size
    surprising = torch.rand(size, generator=generator) < 0.5
    return torch.where(surprising, noise, walk)


def batches(
    args: argparse.Namespace, data_rank: int, device: torch.device
) -> Iterator[dict[str, torch.Tensor]]:
    """Micro batches of one data-parallel rank, without end.

    Sample i of a step goes to rank i // micro_batch % data_parallel_size, as Megatron-LM deals
    them. Tensors of shape (micro_batch, seq_length).
    """
    micro, ranks = args.micro_batch_size, args.data_parallel_size
    first = data_rank * micro
    while True:
        rows = torch.stack([sample(args, first + k) for k in range(micro)]).to(device)
        positions = torch.arange(args.seq_length, device=device).expand(micro, -1)
        yield {"tokens": rows[:, :-1], "labels": rows[:, 1:], "position_ids": positions}
        first += micro * ranks
