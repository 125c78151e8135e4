"""The project's own proposer: a cost model that learns, and rivals in case it is wrong.

Each ask weighs rival explanations of speed and memory by the trials so far, and takes the legal
config with the highest expected improvement x probability that it runs / expected cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.costmodel import CostModel
from autotune.search.features import build_features
from autotune.search.hypotheses import (
    FitBelief,
    SpeedBelief,
    explain_memory,
    explain_speed,
)
from autotune.search.ledger import Ledger
from autotune.search.prior import CostPrior, prepare_table
from autotune.search.proposal import LegalRows, Proposal, Skipped
from autotune.search.regions import FailingRegions
from autotune.space.limits import Objective
from autotune.trial import Prediction, TrialRecord

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_POINTS = 160
SHORTLIST = 1024
HEADROOM = 0.3
"""Before anything ran, improvement counts from this far (nats) behind the best expected."""
START_COST = 2.0
"""What a trial costs besides its steps, in units of the best config's steps."""


@dataclass(frozen=True)
class Beliefs:
    """What is believed at one moment, and the log cost that a further trial has to beat."""

    speed: SpeedBelief
    fit: FitBelief
    best: float


class AutotuneProposer:
    """Proposer over a legal set, with a cost model or without one (the user's own command)."""

    def __init__(
        self,
        legal: LegalRows,
        cost_model: CostModel | None = None,
        objective: Objective | None = None,
        seed: int = 0,
        prior: CostPrior | None = None,
    ) -> None:
        self.legal = legal
        self.objective = objective or Objective()
        self.features = build_features(legal)
        if prior is None and cost_model is not None:
            prior = CostPrior.around(prepare_table(cost_model, legal))
        self.prior = prior
        self.ledger = Ledger(legal, self.objective)
        self.regions = FailingRegions(legal)
        self._jitter = 1e-9 * np.random.default_rng(seed).random(len(legal))
        self._centre_count = 0
        self._explain()

    def propose(self, history: Sequence[TrialRecord], pending: Sequence[int]) -> Proposal | None:
        self._learn(history)
        running = np.array(pending, dtype=np.int64)
        beliefs = self._beliefs(running)
        open_rows = self._open_rows(running)
        if not len(open_rows):
            return None
        rows = self._shortlist(open_rows, beliefs)
        return self._proposal(int(rows[np.argmax(self._scores(rows, beliefs))]), beliefs)

    def _learn(self, history: Sequence[TrialRecord]) -> None:
        self.ledger.update(history)
        self.regions.update(self.ledger.trials)
        ran = len(self.ledger.ran)
        count = 1 << (ran.bit_length() - 1) if ran else 0
        if self.prior is not None and min(count, 64) != self._centre_count:
            self._centre_count = min(count, 64)
            observations = self.ledger.observations(self._centre_count)
            self.prior = self.prior.recentred(observations)
            self._explain()

    def _explain(self) -> None:
        self._rivals = explain_speed(self.features, self.prior, self._offset())
        self._memory = explain_memory(self.features, self.prior)

    def _offset(self) -> FloatArray:
        """What turns log seconds per step into the objective's log cost."""
        if self.prior is None or self.objective.metric == "step_time_s":
            return np.zeros(len(self.legal))
        return np.asarray(-np.log(self.prior.table.tokens))

    def _beliefs(self, running: IntArray) -> Beliefs:
        rows, cost = self.ledger.selected(MOST_POINTS)
        speed = SpeedBelief.condition(self._rivals, self.features.values, rows, cost, running)
        capacity = self.prior.capacity_gib if self.prior is not None else None
        facts = self.ledger.memory_facts(capacity, MOST_POINTS)
        fit = FitBelief.condition(self._memory, facts, self.ledger.crashed(MOST_POINTS))
        found = self.ledger.best
        if found is not None:
            return Beliefs(speed, fit, found[1])
        rows = np.arange(len(self.legal))
        likely = fit.fits(rows) >= 0.5
        mean = speed.rough_mean()
        return Beliefs(
            speed, fit, float(mean[likely].min() if likely.any() else mean.min()) + HEADROOM
        )

    def _open_rows(self, running: IntArray) -> IntArray:
        """Rows that may be run: not yet run, not running, not ruled out (if any others are left)."""
        free = ~self.ledger.visited
        free[running] = False
        allowed = free & (self.regions.excluded("memory") < 0)
        allowed &= self.regions.excluded("legality") < 0
        return np.flatnonzero(allowed if allowed.any() else free)

    def _shortlist(self, rows: IntArray, beliefs: Beliefs) -> IntArray:
        if len(rows) <= SHORTLIST:
            return rows
        mean = beliefs.speed.rough_mean()[rows] - np.log(beliefs.fit.fits(rows) + 1e-3) * 0.1
        return rows[np.argpartition(mean, SHORTLIST)[:SHORTLIST]]

    def _scores(self, rows: IntArray, beliefs: Beliefs) -> FloatArray:
        gain = beliefs.speed.improvement(rows, beliefs.best)
        mean, _ = beliefs.speed.mixed(rows)
        cost = START_COST + np.exp(np.clip(mean - beliefs.best, -3.0, 3.0))
        return gain * beliefs.fit.fits(rows) / cost + self._jitter[rows]

    def _proposal(self, row: int, beliefs: Beliefs) -> Proposal:
        at = np.array([row])
        return Proposal(row, "", Prediction())

    def finished(self, history: Sequence[TrialRecord]) -> str | None:
        return None

    def skipped(self, history: Sequence[TrialRecord]) -> Iterator[Skipped]:
        return iter(())
