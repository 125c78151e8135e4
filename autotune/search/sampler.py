"""The project's own proposer: a cost model that learns, and rivals in case it is wrong.

Each ask weighs rival explanations of speed and memory by the trials so far, and takes the legal
config with the highest expected improvement x probability that it runs / expected cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autotune.costmodel import CostModel
from autotune.search.features import build_features
from autotune.search.hypotheses import (
    FitBelief,
    SpeedBelief,
    expected_fall,
    explain_crashes,
    explain_memory,
    explain_speed,
)
from autotune.search.ledger import Ledger
from autotune.search.prior import CostPrior, prepare_table
from autotune.search.proposal import LegalRows, Proposal, Skipped, SkipReason
from autotune.search.regions import FailingRegions
from autotune.space.limits import Objective
from autotune.trial import Prediction, TrialRecord

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_POINTS = 160
MOST_FACTS = 48
"""So many trials that ran, and of each kind of failure, are weighed at once."""
SHORTLIST = 1024
HEADROOM = 0.12
"""Before anything ran, improvement counts from this far (nats) behind the best expected."""
ROUGH_SIGMA = 0.15
"""Deviation of log cost that a shortlist allows for."""
HARDLY = 1e-3
"""Rows that run with less than this probability are looked at only where there are few others."""
START_COST = 5.0
"""What a trial costs besides its steps, in units of the best config's steps."""
AUDIT = 0.1
"""How much a config counts that a rule speaks against which no audit has confirmed."""
WORTH = 0.02
LEAST_GAIN, LEAST_SHOWN_GAIN = 0.001, 0.0025
LEAST_ODDS = 0.05
PATIENCE = 8
"""The study ends by itself when at least so many trials in a row (see `patience`) brought no better
one, and all that are left are expected to gain less than this, with less than these odds of a gain
worth having. After twice as many, errors count as small as they have shown to be, against the
second gain: every config may be a few per cent luckier than expected, and where all turn out
alike, waiting for that luck would never end."""


def patience(configs: int) -> int:
    """Trials in a row without a better one before a search among so many configs may end.

    Gain and odds are those of the best single config; that one of many is better is likelier, so
    a set of more than 256 needs as many trials as its size has bits.
    """
    return max(PATIENCE, configs.bit_length())


@dataclass(frozen=True)
class Beliefs:
    """What is believed at one moment, and the log cost against which gains are counted.

    ``rough`` (rows,) is the expected log cost by linear effects alone.
    """

    speed: SpeedBelief
    fit: FitBelief
    target: float
    rough: FloatArray


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
        self._patience = patience(len(legal))
        self._centre_count = 0
        self._believed: tuple[tuple[int, ...], Beliefs] | None = None
        self._crashes = explain_crashes(legal)
        self._explain()

    def propose(self, history: Sequence[TrialRecord], pending: Sequence[int]) -> Proposal | None:
        """The row that is worth its cost most, by all that was told and is running."""
        self._learn(history)
        running = np.array(pending, dtype=np.int64)
        beliefs = self._beliefs(running)
        open_rows = self._open_rows(running)
        if not len(open_rows):
            return None
        rows = self._shortlist(open_rows, beliefs)
        row = int(rows[np.argmax(self._scores(rows, beliefs))])
        return Proposal(
            row,
            self._reason(row, beliefs),
            self._prediction(row, beliefs),
            audit=bool(self.regions.excluded("memory")[row] >= 0),
        )

    def _learn(self, history: Sequence[TrialRecord]) -> None:
        self.ledger.update(history)
        self.regions.update(self.ledger.trials)
        ran = len(self.ledger.ran)
        count = 1 << (ran.bit_length() - 1) if ran else 0
        if self.prior is not None and min(count, 64) != self._centre_count:
            self._centre_count = min(count, 64)
            observations = self.ledger.observations(self._centre_count, self.prior.capacity_gib)
            self.prior = self.prior.recentred(observations)
            self._explain()

    def _explain(self) -> None:
        self._unit = self._log_unit()
        self._rivals = explain_speed(self.features, self.prior, self._unit)
        self._memory = explain_memory(self.features, self.prior)

    def _log_unit(self) -> FloatArray | None:
        """What turns log seconds per step into the objective's log cost; None in other units."""
        if self.prior is None:
            return None
        table, metric = self.prior.table, self.objective.metric
        if metric == "step_time_s":
            return np.zeros(len(self.legal))
        if metric == "tokens_per_s":
            return np.asarray(-np.log(table.tokens))
        if metric == "tokens_per_s_per_gpu":
            return np.asarray(np.log(table.gpus / table.tokens))
        if metric == "cost_per_token":
            price = (self.objective.price_per_gpu_hour or 1.0) / 3600.0
            return np.asarray(np.log(price * table.gpus / table.tokens))
        return None

    def _beliefs(self, running: IntArray) -> Beliefs:
        """What is believed now; computed once for each state of the history and what runs."""
        state = (len(self.ledger.trials), *running.tolist())
        if self._believed is None or self._believed[0] != state:
            self._believed = (state, self._conditioned(running))
        return self._believed[1]

    def _conditioned(self, running: IntArray) -> Beliefs:
        rows, cost = self.ledger.selected(MOST_POINTS)
        speed = SpeedBelief.condition(self._rivals, self.features.values, rows, cost, running)
        capacity = self.prior.capacity_gib if self.prior is not None else None
        facts = self.ledger.memory_facts(capacity, MOST_FACTS)
        fit = FitBelief.condition(
            self._memory, self._crashes, facts, self.ledger.crashed(MOST_FACTS)
        )
        rough = speed.rough_mean()
        return Beliefs(speed, fit, self._target(rough, fit), rough)

    def _target(self, rough: FloatArray, fit: FitBelief) -> float:
        """The best so far, or a little behind the best that is likely to run, if that is better."""
        found = self.ledger.best
        level = math.inf if found is None else found[1] - HEADROOM
        better = np.flatnonzero(rough < level)
        likely = better[fit.rough_fits(better) >= 0.5]
        if len(likely):
            return float(rough[likely].min()) + HEADROOM
        return float(rough.min()) + HEADROOM if found is None else found[1]

    def _open_rows(self, running: IntArray) -> IntArray:
        """Rows neither run nor running nor refused, if any others are left."""
        free = ~self.ledger.visited
        free[running] = False
        allowed = free & (self.regions.excluded("legality") < 0)
        return np.flatnonzero(allowed if allowed.any() else free)

    def _shortlist(self, rows: IntArray, beliefs: Beliefs) -> IntArray:
        """The rows worth a close look, by linear effects alone."""
        if len(rows) <= SHORTLIST:
            return rows
        runs = beliefs.fit.rough_fits(rows)
        likely = np.flatnonzero(runs > HARDLY)
        if len(likely) > SHORTLIST:
            rows, runs = rows[likely], runs[likely]
        gain = expected_fall(beliefs.rough[rows], ROUGH_SIGMA, beliefs.target)
        score = gain * runs * self._free(rows)
        return rows[np.argpartition(-score, SHORTLIST)[:SHORTLIST]]

    def _free(self, rows: IntArray) -> FloatArray:
        """1 where no rule speaks against a row, little where an audit might, 0 after one."""
        if not self.regions.rules:
            return np.ones(len(rows))
        share = [1e-9 if rule.audited_by is not None else AUDIT for rule in self.regions.rules]
        return np.array([*share, 1.0])[self.regions.excluded("memory")[rows]]

    def _scores(self, rows: IntArray, beliefs: Beliefs) -> FloatArray:
        """Expected gain x probability of running / cost, of rows (m,): (m,)."""
        gain, mean = beliefs.speed.outlook(rows, beliefs.target)
        cost = START_COST + np.exp(np.clip(mean - beliefs.target, -3.0, 3.0))
        return gain * beliefs.fit.fits(rows) * self._free(rows) / cost + self._jitter[rows]

    def _reason(self, row: int, beliefs: Beliefs) -> str:
        at = np.array([row])
        mean, _ = beliefs.speed.mixed(at)
        fits = f"runs with probability {beliefs.fit.fits(at)[0]:.2f}"
        position = int(self.regions.excluded("memory")[row])
        if position >= 0:
            witness = self.regions.rules[position].witness
            return f"audit of what trial {witness} ruled out; {fits}"
        found = self.ledger.best
        trust = beliefs.speed.trust
        if found is None:
            return f"best expected before anything ran; {fits} ({trust})"
        change = math.exp(found[1] - float(mean[0])) - 1.0
        gain = beliefs.speed.improvement(at, found[1])[0]
        return f"expected {change:+.0%} against the best, gain {gain:.1%}; {fits} ({trust})"

    def predict(self, index: int) -> Prediction:
        """What is expected of one row by what was told so far; empty without a cost model."""
        return self._prediction(index, self._beliefs(np.zeros(0, dtype=np.int64)))

    def _prediction(self, row: int, beliefs: Beliefs) -> Prediction:
        at = np.array([row])
        probability = float(beliefs.fit.fits(at)[0])
        if self.prior is None:
            return Prediction(probability_fits=probability)
        ratio, spread = beliefs.fit.log_ratio(at)
        memory = self.prior.capacity_gib * math.exp(float(ratio[0]))
        prediction = Prediction(
            memory_gib=memory,
            memory_sigma_gib=memory * float(spread[0]),
            probability_fits=probability,
        )
        if self._unit is None:
            return prediction
        mean, sigma = beliefs.speed.mixed(at)
        centre, reach = float(mean[0] - self._unit[row]), 1.96 * float(sigma[0])
        return replace(
            prediction,
            step_time_s=math.exp(centre),
            step_time_low_s=math.exp(centre - reach),
            step_time_high_s=math.exp(centre + reach),
        )

    def finished(self, history: Sequence[TrialRecord]) -> str | None:
        """Stops when no config left is expected to gain, and none has odds worth a trial."""
        self._learn(history)
        found = self.ledger.best
        rows = self._open_rows(np.zeros(0, dtype=np.int64))
        if found is None or self.ledger.since_best < self._patience or not len(rows):
            return None
        beliefs = self._beliefs(np.zeros(0, dtype=np.int64))
        near = self._shortlist(rows, beliefs)
        runs = beliefs.fit.fits(near) * self._free(near)
        as_shown = self.ledger.since_best >= 2 * self._patience
        gains, chances = beliefs.speed.prospects(near, found[1], WORTH, as_shown)
        gain, odds = float((gains * runs).max()), float((chances * runs).max())
        if gain >= (LEAST_SHOWN_GAIN if as_shown else LEAST_GAIN) or odds >= LEAST_ODDS:
            return None
        return (
            f"{self.ledger.since_best} trials in a row brought no better one; none that is left is "
            f"expected to gain more than {gain:.2%}, nor has more than {odds:.1%} odds of being "
            f"{WORTH:.0%} faster"
        )

    def skipped(self, history: Sequence[TrialRecord]) -> Iterator[Skipped]:
        """Every config never run and why, by what all trials together tell."""
        self._learn(history)
        beliefs = self._beliefs(np.zeros(0, dtype=np.int64))
        rows = np.flatnonzero(~self.ledger.visited)
        found = self.ledger.best
        for start in range(0, len(rows), SHORTLIST):
            part = rows[start : start + SHORTLIST]
            yield from self._skipped_part(part, beliefs, found[1] if found else None)

    def _skipped_part(
        self, rows: IntArray, beliefs: Beliefs, best: float | None
    ) -> Iterator[Skipped]:
        runs = beliefs.fit.fits(rows)
        ratio, _ = beliefs.fit.log_ratio(rows)
        mean, sigma = beliefs.speed.mixed(rows)
        for at, row in enumerate(rows.tolist()):
            ruled = [int(self.regions.excluded(kind)[row]) for kind in ("legality", "memory")]
            rule = next((self.regions.rules[k] for k in ruled if k >= 0), None)
            if rule is not None:
                kind: SkipReason = "invalid" if rule.kind == "legality" else "dominated"
                yield Skipped(row, kind, rule.reason, witness=rule.witness)
            elif runs[at] < 0.5:
                yield self._not_fitting(row, float(ratio[at]), float(runs[at]))
            elif best is not None:
                share = math.exp(min(best - float(mean[at] - 1.96 * sigma[at]), 50.0))
                reason = f"plausibly at most {share:.0%} of the best"
                yield Skipped(row, "not promising" if share < 1.0 else "not reached", reason,
                              at_most=share)  # fmt: skip
            else:
                yield Skipped(row, "not reached", "nothing has run yet")

    def _not_fitting(self, row: int, log_ratio: float, runs: float) -> Skipped:
        if self.prior is None:
            reason = f"runs with probability {runs:.2f}, by what failed so far"
            return Skipped(row, "predicted not to fit", reason)
        capacity = self.prior.capacity_gib
        margin = capacity * math.exp(log_ratio) - capacity
        reason = f"expected to need {capacity + margin:.1f} GiB of {capacity:.1f}"
        if margin <= 0.0:
            reason = f"runs with probability {runs:.2f}, by what failed so far"
        return Skipped(row, "predicted not to fit", reason, margin_gib=margin)
