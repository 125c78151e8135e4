"""A study's trials as arrays over the rows of its legal set, kept up as trials are told."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autotune.costmodel import Observation
from autotune.search.fidelity import conclusive
from autotune.search.memory import MemoryFacts
from autotune.search.merit import log_cost
from autotune.search.proposal import LegalRows
from autotune.space.limits import Objective
from autotune.trial import Outcome, TrialRecord

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

TEACHES_NOTHING = frozenset({Outcome.INFRA, Outcome.CANCELLED, Outcome.USER_ERROR})

NEARLY_FULL = 0.86
"""Above this share of a GPU's memory, allocators flush and retry: a peak is no longer a need."""


class Ledger:
    """What the search needs of the trials told so far.

    Rows of repeated trials (finalists, audits) are joined: the mean log cost, the highest peak.
    """

    def __init__(self, legal: LegalRows, objective: Objective) -> None:
        self.legal = legal
        self.objective = objective
        self.visited = np.zeros(len(legal), dtype=bool)
        self.trials: list[tuple[TrialRecord, int]] = []
        self.since_best = 0
        """Trials told since the best improved, repeats of a row not counted."""
        self._told: set[int] = set()
        self._costs: dict[int, float] = {}
        self._counts: dict[int, int] = {}
        self._peaks: dict[int, float] = {}
        self._times: dict[int, float] = {}
        self._best: tuple[float, int] | None = None
        self._beyond: dict[int, int] = {}
        self._crashed: dict[int, int] = {}
        self._by_proxy: set[int] = set()
        """Rows of which only a smaller job ran: their peaks are estimates, their fit unproven."""

    def update(self, history: Sequence[TrialRecord]) -> None:
        """Takes in trials that have an outcome and were not told before."""
        for record in history:
            if record.outcome is None or record.number in self._told:
                continue
            self._told.add(record.number)
            if not conclusive(record):
                continue
            row = self.legal.find(record.values)
            if row is not None and not (record.fidelity == "target" and self.visited[row]):
                self.visited[row] = True
                self.trials.append((record, row))
                self._note(record, row)

    def _note(self, record: TrialRecord, row: int) -> None:
        if record.fidelity == "proxy" and row not in self._costs:
            self._by_proxy.add(row)
        elif row in self._by_proxy:
            self._forget(row)
        cost = log_cost(record, self.objective)
        best = self.best
        if cost is not None and (best is None or cost < best[1]):
            self.since_best = 0
        elif row not in self._costs and record.outcome not in TEACHES_NOTHING:
            self.since_best += 1
        if cost is not None and record.measurement is not None:
            count = self._counts.get(row, 0)
            self._costs[row] = (self._costs.get(row, 0.0) * count + cost) / (count + 1)
            self._counts[row] = count + 1
            self._best = self._found_best(row)
            if record.measurement.step_time_s.value > 0.0:
                self._times[row] = record.measurement.step_time_s.value
            peak = record.measurement.peak_memory_gib
            if peak is not None and peak > 0.0:
                self._peaks[row] = max(peak, self._peaks.get(row, 0.0))
        elif record.outcome is Outcome.OOM_GPU:
            self._beyond[row] = record.number
        elif record.outcome not in TEACHES_NOTHING and record.outcome is not None:
            self._crashed[row] = record.number

    def _forget(self, row: int) -> None:
        """Drops what a proxy told of a row, now that it ran in full."""
        self._by_proxy.discard(row)
        for told in (self._costs, self._counts, self._times, self._peaks):
            told.pop(row, None)
        costs = ((cost, other) for other, cost in self._costs.items())
        self._best = min(costs, default=None)

    @property
    def ran(self) -> list[int]:
        """Rows with a figure, in the order of their first."""
        return list(self._costs)

    @property
    def best(self) -> tuple[int, float] | None:
        """The row of least log cost and that cost, None while nothing ran."""
        return (self._best[1], self._best[0]) if self._best is not None else None

    def _found_best(self, row: int) -> tuple[float, int]:
        """The best after ``row`` changed; all rows are looked at only when the best got worse."""
        now = (self._costs[row], row)
        if self._best is None or now <= self._best:
            return now
        if self._best[1] != row:
            return self._best
        return min((cost, other) for other, cost in self._costs.items())

    def selected(self, most: int) -> tuple[IntArray, FloatArray]:
        """At most ``most`` rows that ran, with their log costs: the best half, then the latest."""
        rows = self.ran
        if len(rows) > most:
            pairs = heapq.nsmallest(most // 2, ((cost, row) for row, cost in self._costs.items()))
            ranked = {row: None for _, row in pairs}
            latest = (row for row in reversed(rows) if row not in ranked)
            rows = [*ranked, *itertools.islice(latest, most - len(ranked))]
        return np.array(rows, dtype=np.int64), np.array([self._costs[row] for row in rows])

    def memory_facts(self, capacity_gib: float | None, most: int) -> MemoryFacts:
        """What is known of memory: the latest ``most`` rows of each kind.

        The peak of a run on a nearly full GPU says little but that it fits.
        """
        told = self._telling_peaks(capacity_gib)
        seen = list(told)[-most:]
        ran = [r for r in self._costs if r not in told and r not in self._by_proxy][-most:]
        logs = [math.log(self._peaks[r] / capacity_gib) for r in seen if capacity_gib is not None]
        return MemoryFacts(
            np.array(seen, dtype=np.int64),
            np.array(logs),
            np.array(ran, dtype=np.int64),
            np.array(list(self._beyond)[-most:], dtype=np.int64),
        )

    def crashed(self, most: int) -> IntArray:
        """The latest rows that failed for a reason other than memory."""
        return np.array(list(self._crashed)[-most:], dtype=np.int64)

    def _telling_peaks(self, capacity_gib: float | None) -> dict[int, float]:
        """Peaks in GiB below which an allocator has no reason yet to give memory back."""
        if capacity_gib is None:
            return {}
        most = NEARLY_FULL * capacity_gib
        return {r: gib for r, gib in self._peaks.items() if gib <= most or r in self._by_proxy}

    def observations(self, count: int, capacity_gib: float) -> list[Observation]:
        """The first ``count`` rows that ran, and all that ran out of memory, for the cost model."""
        told = self._telling_peaks(capacity_gib)
        rows = [row for row in self.ran[:count] if row not in self._by_proxy or row in told]
        ran = [Observation(row, self._times.get(row), told.get(row)) for row in rows]
        return ran + [Observation(row, oom=True) for row in self._beyond]
