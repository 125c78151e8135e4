"""Instruction examples as token batches that every layout sees in the same order.

A tuner compares runs, so the samples of optimizer step n must be the same whatever the micro
batch, the number of replicas or the accumulation: `SampleOrder` fixes them by seed alone, and
`replica_indices` deals them out. Prompts are masked (-100) and padding is never counted.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

IGNORED = -100
WORD = re.compile(r"\w+|[^\w\s]|\s+")
PROMPT_KEYS = (("instruction", "input", "output"), ("instruction", "context", "response"))


class HashTokenizer:
    """Words to stable ids by CRC-32, for models that come without a tokenizer.

    Nothing to download and the same on every machine; text cannot be decoded again. Ids 0, 1
    and 2 are padding, end and begin.
    """

    pad_token_id, eos_token_id, bos_token_id = 0, 1, 2

    def __init__(self, vocab_size: int) -> None:
        if vocab_size < 16:
            raise SystemExit(f"vocab_size {vocab_size} leaves no room for words: need 16 or more")
        self.vocab_size = vocab_size

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of the words, punctuation marks and blanks in `text`."""
        room = self.vocab_size - 3
        return [3 + zlib.crc32(word.encode()) % room for word in WORD.findall(text)]


def load_tokenizer(folder: str | None, vocab_size: int):
    """The Hugging Face tokenizer in `folder`, else a HashTokenizer for the model's vocabulary."""
    if folder is None:
        return HashTokenizer(vocab_size)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@dataclass(frozen=True)
class Encoded:
    """One example: its token ids, and how many of them are prompt."""

    ids: tuple[int, ...]
    prompt_length: int

    @property
    def targets(self) -> int:
        """Tokens that the loss is taken over."""
        return len(self.ids) - self.prompt_length


def prompt_and_response(record: dict[str, str], where: str) -> tuple[str, str]:
    """The two halves of an Alpaca or Dolly record; exits with `where` for any other shape."""
    for asked, given, answered in PROMPT_KEYS:
        if asked in record and answered in record:
            context = record.get(given, "")
            middle = f"\n### Input:\n{context}\n" if context else "\n"
            prompt = f"### Instruction:\n{record[asked]}\n{middle}### Response:\n"
            return prompt, record[answered]
    raise SystemExit(f"{where}: expected the keys of Alpaca or Dolly, found {sorted(record)}")


def load_examples(path: str | Path, tokenizer, max_length: int) -> list[Encoded]:
    """Examples of a JSON-lines file, cut at `max_length` tokens; those left without answer drop."""
    examples = []
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            prompt, response = prompt_and_response(json.loads(line), f"{path}:{number}")
            head = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
            head += tokenizer.encode(prompt, add_special_tokens=False)
            tail = [*tokenizer.encode(response, add_special_tokens=False), tokenizer.eos_token_id]
            example = Encoded(tuple((head + tail)[:max_length]), len(head))
            if example.targets > 0:
                examples.append(example)
    if not examples:
        raise SystemExit(f"{path}: no example keeps an answer within {max_length} tokens")
    return examples


class SampleOrder:
    """An endless shuffled stream of example indices that depends on the seed alone."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> list[int]:
        order = list(range(self.count))
        random.Random(self.seed * 1_000_003 + epoch).shuffle(order)
        return order

    def step(self, step: int, global_batch_size: int) -> list[int]:
        """Indices of optimizer step `step` (from 0)."""
        start = step * global_batch_size
        places = (divmod(start + offset, self.count) for offset in range(global_batch_size))
        return [self._epoch(epoch)[place] for epoch, place in places]


def replica_indices(
    indices: Sequence[int], replica: int, replicas: int, micro_batch_size: int
) -> list[list[int]]:
    """One replica's micro batches, in order; exits where the global batch does not divide."""
    stride = replicas * micro_batch_size
    if len(indices) % stride:
        raise SystemExit(
            f"global batch {len(indices)} is not a multiple of {replicas} replicas "
            f"x micro batch {micro_batch_size}"
        )
    first = replica * micro_batch_size
    return [
        list(indices[start + first : start + first + micro_batch_size])
        for start in range(0, len(indices), stride)
    ]


def collate(
    examples: Sequence[Encoded], pad_id: int, length_multiple: int = 8, fixed_length: int = 0
) -> dict[str, torch.Tensor]:
    """Right-padded input_ids, attention_mask, labels (batch, length), prompt and padding masked.

    The length is the longest example rounded up to `length_multiple`, or `fixed_length`.
    """
    longest = max(len(example.ids) for example in examples)
    length = fixed_length or -(-longest // length_multiple) * length_multiple
    input_ids = torch.full((len(examples), length), pad_id, dtype=torch.long)
    labels = torch.full((len(examples), length), IGNORED, dtype=torch.long)
    mask = torch.zeros((len(examples), length), dtype=torch.long)
    for row, example in enumerate(examples):
        ids = torch.tensor(example.ids, dtype=torch.long)
        input_ids[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
        labels[row, example.prompt_length : len(ids)] = ids[example.prompt_length :]
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}
