"""Fixed orders through a legal set: what people do without a model, kept to be beaten.

``heuristic`` is an expert's sort: keep activations, newest attention kernel, smallest micro
batch, least model parallelism. ``grid`` is row after row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from autotune.search.ledger import Ledger
from autotune.search.proposal import LegalRows, Proposal, Skipped
from autotune.space.limits import Objective
from autotune.trial import TrialRecord

RECOMPUTE_RANK = {"none": 0, "selective": 1, "full": 2}
ATTENTION_RANK = ("flash_attention3", "transformer_engine", "flash", "sdpa", "fused", "torch")
LEAST_FIRST = (
    "pipeline_model_parallel_size",
    "tensor_model_parallel_size",
    "context_parallel_size",
    "expert_model_parallel_size",
)


def grid_order(legal: LegalRows) -> NDArray[np.int64]:
    """The rows as they stand."""
    return np.arange(len(legal))


def heuristic_order(legal: LegalRows) -> NDArray[np.int64]:
    """Rows by an expert's sort; what has no expert's opinion keeps its order."""
    keys: list[NDArray[np.float64]] = []
    names = list(legal.names)
    if "recompute_granularity" in names:
        keys.append(_ranked(legal, "recompute_granularity", _recompute_rank))
    if "attention_backend" in names:
        keys.append(_ranked(legal, "attention_backend", _attention_rank))
    if "micro_batch_size" in names:
        keys.append(_ranked(legal, "micro_batch_size", _size))
    sizes = [_ranked(legal, name, _size) for name in LEAST_FIRST if name in names]
    if sizes:
        keys.append(np.prod(np.maximum(sizes, 1.0), axis=0))
        keys += sizes
    return np.lexsort(keys[::-1]) if keys else grid_order(legal)


def _recompute_rank(value: object) -> float:
    return RECOMPUTE_RANK.get(str(value).lower(), 0)


def _attention_rank(value: object) -> float:
    """Newer kernels first; of one kind the later name counts as newer, extra fusion as newest."""
    text = str(value).lower()
    kind = next((k for k, mark in enumerate(ATTENTION_RANK) if text.startswith(mark)), 3)
    return kind - 0.1 * ("2" in text) - 0.2 * ("rms" in text)


def _size(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 1.0


def _ranked(legal: LegalRows, name: str, rank: object) -> NDArray[np.float64]:
    assert callable(rank)
    ranks = [rank(value) for value in legal.choices[name]] + [rank(None)]
    return np.array(ranks, dtype=float)[legal.codes[:, list(legal.names).index(name)]]


class OrderProposer:
    """Proposes the rows of a fixed order, one after another."""

    def __init__(self, legal: LegalRows, order: NDArray[np.int64], name: str) -> None:
        self.legal = legal
        self.order = order
        self.name = name
        self._ledger = Ledger(legal, Objective())

    def propose(self, history: Sequence[TrialRecord], pending: Sequence[int]) -> Proposal | None:
        """The first row of the order that was neither run nor runs now."""
        self._ledger.update(history)
        running = set(pending)
        for place, row in enumerate(self.order.tolist()):
            if not self._ledger.visited[row] and row not in running:
                return Proposal(row, f"{self.name}: number {place + 1} of {len(self.order)}")
        return None

    def finished(self, history: Sequence[TrialRecord]) -> str | None:
        """Never: a fixed order expects nothing."""
        return None

    def skipped(self, history: Sequence[TrialRecord]) -> Iterator[Skipped]:
        """Rows not reached yet."""
        self._ledger.update(history)
        return not_reached(self._ledger)


def not_reached(ledger: Ledger) -> Iterator[Skipped]:
    """Every row that was not run, for proposers that know no other reason."""
    for row in np.flatnonzero(~ledger.visited).tolist():
        yield Skipped(row, "not reached", "the search ended before its turn")
