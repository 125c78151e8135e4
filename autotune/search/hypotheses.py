"""Rival explanations of what was seen, weighed by how well each had expected it.

For speed: the cost model with its own error, the cost model much less sure of itself, and no
cost model at all. For memory: the same three, each with and without the suspicion that a crash
of unknown cause was memory in disguise. A cost model that is wrong for a cluster thus loses
its say within a few trials, by the odds, and one that is right keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from autotune.search.features import Features
from autotune.search.gaussian import Kernel, Posterior, matern
from autotune.search.memory import MemoryBelief, MemoryFacts, MemoryPrior, no_kin
from autotune.search.prior import CostPrior
from autotune.search.proposal import LegalRows

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CAP = 0.35
"""Improvements beyond this many nats count as this: no dream outweighs a likely gain."""
SCREENED, HOPELESS = 72, 1e-9
"""From so many observations on, rivals that half as many leave with these odds are dropped."""
CRASH_RATE = 0.03
"""How often a config that fits is expected to crash all the same."""

MEMORY_SLOPES: dict[str, tuple[float, float]] = {
    "tensor_model_parallel_size": (-0.6, 0.2),
    "pipeline_model_parallel_size": (-0.4, 0.3),
    "context_parallel_size": (-0.4, 0.2),
    "expert_model_parallel_size": (-0.3, 0.3),
    "micro_batch_size": (0.5, 0.25),
    "zero_stage": (-0.2, 0.15),
    "sequence_parallel": (-0.15, 0.1),
    "recompute_granularity=full": (-0.5, 0.25),
    "recompute_granularity=selective": (-0.2, 0.15),
    "cpu_offload": (-0.4, 0.3),
}
"""Mean and deviation of the change in log peak memory per doubling or when switched on."""

OTHER_MEMORY_SLOPE = (0.0, 0.3)


@dataclass(frozen=True)
class Explanation:
    """One rival for speed: log cost of row i is ``mean[i]`` plus a draw of the kernel's process."""

    name: str
    odds: float
    mean: FloatArray
    basis: FloatArray
    kernel: Kernel


@dataclass(frozen=True)
class Doubt:
    """How far a cost model may be wrong, and the prior odds of it.

    ``error`` multiplies what the model says of its own error, ``widths`` the freedom of its
    constants; ``smooth`` is the share of the error that neighbours have in common.
    """

    odds: float
    error: float
    widths: float
    smooth: float


DOUBTS = (
    Doubt(odds=0.15, error=0.4, widths=0.4, smooth=0.8),
    Doubt(odds=0.15, error=0.4, widths=0.4, smooth=0.98),
    Doubt(odds=0.45, error=1.0, widths=0.4, smooth=0.8),
    Doubt(odds=0.20, error=2.5, widths=1.0, smooth=0.8),
)
"""What the model gets wrong it gets wrong for neighbours alike: without that, every variant of one
layout would be a fresh draw of luck, and the search would stay with the layout it knows (seen on
the simulated cluster: a regret of 4% where sharing leaves 1%; grids of distinct layouts do not
mind). How much of it they share is found out too: once a dozen variants of a layout came out within
a half per cent of each other, one more is no promise, and another layout is."""
BLIND = tuple((scale, smooth) for scale in (1.0, 2.5) for smooth in (0.12, 0.4))
"""Without a model: the scale of the expected slopes and the deviation of the smooth remainder."""
BLIND_ODDS = 0.05
LEVEL_KNOWN, LEVEL_ROUGH, LEVEL_UNKNOWN = 0.02, 1.5, 8.0


def explain_speed(
    features: Features, prior: CostPrior | None, offset: FloatArray | None
) -> list[Explanation]:
    """The rivals for log cost (log seconds per unit of the objective) of every row.

    ``offset`` (rows,) is what turns log seconds per step into log cost, such as minus the log
    of the tokens in a step; None where the objective is in a unit that time does not tell.
    """
    expected = features.effects @ features.slope
    expected = expected - float(np.median(expected))
    basis = features.effects - np.median(features.effects, axis=0)
    if prior is None:
        return _blind(expected, basis, features.slope_sigma, LEVEL_UNKNOWN, 1.0)
    mean = prior.log_time + (0.0 if offset is None else offset)
    rough, level = (LEVEL_ROUGH, LEVEL_KNOWN) if offset is not None else (LEVEL_UNKNOWN,) * 2
    expected = expected + float(np.median(mean))
    rivals = _blind(expected, basis, features.slope_sigma, rough, BLIND_ODDS)
    for doubt in DOUBTS:
        sigma = doubt.error * prior.time_sigma
        apart = math.sqrt(1.0 - doubt.smooth**2) * sigma
        widths = doubt.widths * prior.time_widths
        kernel = Kernel(level, widths, doubt.smooth * sigma, 2.0, apart)
        rivals.append(Explanation("cost model", doubt.odds, mean, prior.time_basis, kernel))
    return rivals


def _blind(
    mean: FloatArray, basis: FloatArray, widths: FloatArray, level: float, odds: float
) -> list[Explanation]:
    """Explanations without a cost model, from tame to wild."""
    return [
        Explanation(
            "data", odds / len(BLIND), mean, basis, Kernel(level, scale * widths, smooth, 3.0, 0.04)
        )
        for scale, smooth in BLIND
    ]


@dataclass(frozen=True)
class SpeedBelief:
    """All rivals conditioned on the same trials, at ``rows``, with their posterior odds."""

    rivals: tuple[Explanation, ...]
    posteriors: tuple[Posterior, ...]
    weights: FloatArray
    features: FloatArray
    rows: IntArray

    @classmethod
    def condition(
        cls,
        rivals: Sequence[Explanation],
        features: FloatArray,
        rows: IntArray,
        cost: FloatArray,
        pending: IntArray,
    ) -> SpeedBelief:
        """Conditions on log costs (n,) of rows (n,); ``pending`` rows count as at their mean."""
        if len(rows) >= SCREENED:
            some = slice(None, None, len(rows) // (SCREENED // 2))
            first = cls.condition(rivals, features, rows[some], cost[some], pending[:0])
            rivals = [r for r, w in zip(rivals, first.weights, strict=True) if w > HOPELESS]
        everywhere = np.concatenate([rows, pending])
        likeness = _likeness(rivals, features[everywhere], features[everywhere])
        count = len(rows)
        posteriors = []
        for rival in rivals:
            among = likeness[rival.kernel.length][:count, :count]
            residual = cost - rival.mean[rows]
            posteriors.append(
                Posterior.condition_robustly(rival.kernel, rival.basis[rows], among, residual)
            )
        evidence = np.array([p.log_evidence for p in posteriors])
        weights = _odds(np.array([r.odds for r in rivals]), evidence)
        if len(pending):
            for at, (rival, seen) in enumerate(zip(rivals, posteriors, strict=True)):
                alike, basis = likeness[rival.kernel.length], rival.basis[everywhere]
                guess, _ = seen.predict(basis[count:], alike[count:, :count])
                residual = np.concatenate([cost - rival.mean[rows], guess])
                odd = np.concatenate([seen.odd, np.zeros(len(pending), dtype=bool)])
                posteriors[at] = Posterior.condition(rival.kernel, basis, alike, residual, odd)
        return cls(tuple(rivals), tuple(posteriors), weights, features, everywhere)

    def predict(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation of log cost under each rival with a say: two arrays (rivals, m)."""
        heard = [self.rivals[at] for at in self._heard]
        likeness = _likeness(heard, self.features[rows], self.features[self.rows])
        means, sigmas = [], []
        for rival, at in zip(heard, self._heard, strict=True):
            alike = likeness[rival.kernel.length]
            mean, sigma = self.posteriors[at].predict(rival.basis[rows], alike)
            means.append(mean + rival.mean[rows])
            sigmas.append(np.sqrt(sigma**2 + rival.kernel.noise**2))
        return np.array(means), np.array(sigmas)

    @cached_property
    def _heard(self) -> IntArray:
        """Positions of the rivals whose odds are worth their computation."""
        return np.flatnonzero(self.weights >= 0.02 * self.weights.max())

    @cached_property
    def _say(self) -> FloatArray:
        return np.asarray(self.weights[self._heard] / self.weights[self._heard].sum())

    def mixed(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation of the mixture of rivals: two arrays (m,)."""
        means, sigmas = self.predict(rows)
        mean = self._say @ means
        return mean, np.sqrt(self._say @ (sigmas**2 + (means - mean) ** 2))

    def improvement(self, rows: IntArray, best: float) -> FloatArray:
        """Expected fall of log cost below ``best``, at most CAP, at rows (m,): (m,) nats."""
        return self.outlook(rows, best)[0]

    def outlook(self, rows: IntArray, best: float) -> tuple[FloatArray, FloatArray]:
        """`improvement` below ``best`` and mean log cost at rows (m,): two arrays (m,)."""
        means, sigmas = self.predict(rows)
        gains = expected_fall(means, sigmas, best) - expected_fall(means, sigmas, best - CAP)
        return np.asarray(self._say @ gains), np.asarray(self._say @ means)

    def prospects(
        self, rows: IntArray, best: float, worth: float, as_shown: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Expected fall below ``best`` and odds of one of ``worth`` at rows (m,): two arrays (m,).

        ``as_shown``: with deviations no wider than the trials so far have shown them to be.
        """
        means, sigmas = self.predict(rows)
        if as_shown:
            shown = [self.posteriors[at].shown_spread for at in self._heard]
            sigmas = sigmas * np.minimum(1.0, shown)[:, None]
        gains = expected_fall(means, sigmas, best) - expected_fall(means, sigmas, best - CAP)
        odds = ndtr((best - worth - means) / sigmas)
        return np.asarray(self._say @ gains), np.asarray(self._say @ odds)

    @property
    def trust(self) -> str:
        """How much the explanations without a cost model say, in words."""
        blind = sum(w for w, r in zip(self.weights, self.rivals, strict=True) if r.name == "data")
        return "by the trials alone" if blind > 0.5 else f"cost model trusted {1.0 - blind:.0%}"

    def rough_mean(self) -> FloatArray:
        """Mixture mean of every row by linear effects alone: what a shortlist is drawn from."""
        means: dict[int, tuple[FloatArray, float]] = {}
        slopes: dict[int, tuple[FloatArray, FloatArray]] = {}
        constant = 0.0
        for weight, at in zip(self._say, self._heard, strict=True):
            rival = self.rivals[at]
            level, effects = self.posteriors[at].linear_effects()
            constant += weight * level
            share = means.get(id(rival.mean), (rival.mean, 0.0))[1]
            means[id(rival.mean)] = (rival.mean, share + weight)
            before = slopes.get(id(rival.basis), (rival.basis, 0.0 * effects))[1]
            slopes[id(rival.basis)] = (rival.basis, before + weight * effects)
        total = np.full(len(self.features), constant)
        for mean, share in means.values():
            total += share * mean
        for basis, effects in slopes.values():
            total += basis @ effects
        return total


@dataclass(frozen=True)
class FitBelief:
    """Rivals for why runs fail, with their posterior odds.

    Each holds a belief about memory and, for some, one about crashes: a crash is either chance,
    memory in disguise, or goes with the config's values.
    """

    rivals: tuple[tuple[MemoryBelief, MemoryBelief | None], ...]
    weights: FloatArray

    @classmethod
    def condition(
        cls,
        priors: Sequence[tuple[MemoryPrior, float]],
        crashes: MemoryPrior,
        facts: MemoryFacts,
        crashed: IntArray,
    ) -> FitBelief:
        """Conditions (prior, odds) pairs on facts about memory and on rows that crashed."""
        if len(priors) > 1 and facts.count >= SCREENED:
            some = facts.thinned(SCREENED // 2)
            told = [MemoryBelief.condition(prior, some).log_evidence for prior, _ in priors]
            weights = _odds(np.array([odds for _, odds in priors]), np.array(told))
            priors = [p for p, w in zip(priors, weights, strict=True) if w > HOPELESS]
        rivals: list[tuple[MemoryBelief, MemoryBelief | None]] = []
        odds, evidence = [], []
        suspects = replace(facts, beyond=np.concatenate([facts.beyond, crashed]))
        ran = np.concatenate([facts.ran, facts.seen, facts.beyond])
        if len(crashed):
            none = np.zeros(0, dtype=np.int64)
            values = MemoryBelief.condition(crashes, MemoryFacts(none, np.zeros(0), ran, crashed))
        for prior, weight in priors:
            plain = MemoryBelief.condition(prior, facts)
            rivals.append((plain, None))
            odds.append(weight)
            chance = len(crashed) * math.log(CRASH_RATE) + len(ran) * math.log1p(-CRASH_RATE)
            evidence.append(plain.log_evidence + chance)
            if len(crashed):
                blamed = MemoryBelief.condition(prior, suspects)
                rivals += [(blamed, None), (plain, values)]
                odds += [weight, weight]
                evidence += [blamed.log_evidence, plain.log_evidence + values.log_evidence]
        return cls(tuple(rivals), _odds(np.array(odds), np.array(evidence)))

    def fits(self, rows: IntArray) -> FloatArray:
        """Probability that each row runs as far as memory, or what crashed so far, tells: (m,)."""
        total = np.zeros(len(rows))
        for weight, (memory, crashes) in zip(self.weights, self.rivals, strict=True):
            if weight >= 0.001:
                other = 1.0 if crashes is None else crashes.fits(rows)
                total += weight * memory.fits(rows) * other
        return total

    def rough_fits(self, rows: IntArray) -> FloatArray:
        """Probability of running of rows (m,) by mean effects alone: (m,)."""
        total = np.zeros(len(rows))
        for weight, (memory, crashes) in zip(self.weights, self.rivals, strict=True):
            if weight >= 0.02:
                other = 1.0 if crashes is None else crashes.rough_fits(rows)
                total += weight * memory.rough_fits(rows) * other
        return total

    def log_ratio(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mixture mean and deviation of log(peak / capacity): two arrays (m,)."""
        pairs = [memory.log_ratio(rows) for memory, _ in self.rivals]
        means, sigmas = np.array([m for m, _ in pairs]), np.array([s for _, s in pairs])
        mean = self.weights @ means
        return mean, np.sqrt(self.weights @ (sigmas**2 + (means - mean) ** 2))


def explain_crashes(legal: LegalRows) -> MemoryPrior:
    """What makes a config crash if not memory: each value of each parameter may."""
    columns = [np.ones(len(legal))]
    for position, name in enumerate(legal.names):
        codes = legal.codes[:, position]
        values = range(len(legal.choices[name])) if len(legal.choices[name]) <= 12 else ()
        columns += [(codes == code).astype(float) for code in values]
    basis = np.column_stack(columns)
    score = np.full(len(legal), -1.9)
    widths = np.array([0.3] + [1.0] * (basis.shape[1] - 1))
    return MemoryPrior(score, basis, score, basis, widths, 1.0, no_kin(len(legal)))


def explain_memory(features: Features, prior: CostPrior | None) -> list[tuple[MemoryPrior, float]]:
    """The rivals for log(peak / capacity), each with its prior odds."""
    slopes = [MEMORY_SLOPES.get(name, OTHER_MEMORY_SLOPE) for name in features.names]
    known = any(name in MEMORY_SLOPES for name in features.names)
    expected = features.values @ np.array([mean for mean, _ in slopes])
    expected = expected - (float(np.median(expected)) if len(expected) else 0.0)
    level = -0.4 if known else -1.5
    basis = np.column_stack([np.ones(len(expected)), features.values])
    widths = np.array([0.8, *(sigma for _, sigma in slopes)])
    need = expected + level
    blind = MemoryPrior(need, basis, need, basis, widths, 0.15, no_kin(len(need)))
    if prior is None:
        return [(blind, 1.0)]
    doubted = replace(prior.memory, sigma=3.0 * prior.memory.sigma)
    return [(prior.memory, 0.75), (doubted, 0.20), (blind, 0.05)]


def expected_fall(means: FloatArray, sigmas: FloatArray | float, level: float) -> FloatArray:
    """Expected fall of Gaussians below a level."""
    z = (level - means) / sigmas
    density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    return np.asarray(sigmas * (z * ndtr(z) + density))


def _likeness(
    rivals: Sequence[Explanation], x_a: FloatArray, x_b: FloatArray
) -> dict[float, FloatArray]:
    """Correlation of points (n, d) and (m, d), (n, m), by length scale of the rivals' kernels."""
    return {length: matern(x_a, x_b, length) for length in {r.kernel.length for r in rivals}}


def _odds(prior: FloatArray, log_evidence: FloatArray) -> FloatArray:
    scores = np.log(prior) + log_evidence
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum())
