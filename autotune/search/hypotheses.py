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

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from autotune.search.features import Features
from autotune.search.gaussian import Kernel, Posterior
from autotune.search.memory import MemoryBelief, MemoryFacts, MemoryPrior
from autotune.search.prior import CostPrior

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

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


def explain_speed(
    features: Features, prior: CostPrior | None, offset: FloatArray
) -> list[Explanation]:
    """The rivals for log cost (log seconds per unit of the objective) of every row.

    ``offset`` (rows,) is what turns log seconds per step into log cost: minus the log of the
    tokens in a step, zero where they are the same everywhere.
    """
    expected = features.values @ features.slope
    blind = Kernel(1.5, features.slope_sigma, 0.12, 2.0, 0.04)
    if prior is None:
        centred = expected - float(np.median(expected))
        return [Explanation("data", 1.0, centred, features.values, replace(blind, level=8.0))]
    mean = prior.log_time + offset
    expected = expected - float(np.median(expected)) + float(np.median(mean))
    rivals = [Explanation("data", 0.05, expected, features.values, blind)]
    for name, odds, doubt in (("cost model", 0.75, 1.0), ("cost model, doubted", 0.20, 2.5)):
        sigma = prior.time_sigma * doubt
        kernel = Kernel(0.02, prior.time_widths, 0.8 * sigma, 2.0, 0.6 * sigma)
        rivals.insert(-1, Explanation(name, odds, mean, prior.time_basis, kernel))
    return rivals


@dataclass(frozen=True)
class SpeedBelief:
    """All rivals conditioned on the same trials, with their posterior odds."""

    rivals: tuple[Explanation, ...]
    posteriors: tuple[Posterior, ...]
    weights: FloatArray
    features: FloatArray

    @classmethod
    def condition(
        cls,
        rivals: Sequence[Explanation],
        features: FloatArray,
        rows: IntArray,
        cost: FloatArray,
        pending: IntArray,
    ) -> SpeedBelief:
        """Conditions on log costs (n,) of rows (n,); ``pending`` rows count as seen at their mean."""
        posteriors = []
        for rival in rivals:
            seen = Posterior.condition(
                rival.kernel, rival.basis[rows], features[rows], cost - rival.mean[rows]
            )
            posteriors.append(seen)
        evidence = np.array([p.log_evidence for p in posteriors])
        weights = _odds(np.array([r.odds for r in rivals]), evidence)
        if len(pending):
            both = np.concatenate([rows, pending])
            for at, (rival, seen) in enumerate(zip(rivals, posteriors, strict=True)):
                guess, _ = seen.predict(rival.basis[pending], features[pending])
                residual = np.concatenate([cost - rival.mean[rows], guess])
                posteriors[at] = Posterior.condition(
                    rival.kernel, rival.basis[both], features[both], residual
                )
        return cls(tuple(rivals), tuple(posteriors), weights, features)

    def predict(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation of log cost under each rival: two arrays (rivals, m)."""
        means, sigmas = [], []
        for rival, posterior in zip(self.rivals, self.posteriors, strict=True):
            mean, sigma = posterior.predict(rival.basis[rows], self.features[rows])
            means.append(mean + rival.mean[rows])
            sigmas.append(np.sqrt(sigma**2 + rival.kernel.noise**2))
        return np.array(means), np.array(sigmas)

    def mixed(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation of the mixture of rivals: two arrays (m,)."""
        means, sigmas = self.predict(rows)
        mean = self.weights @ means
        return mean, np.sqrt(self.weights @ (sigmas**2 + (means - mean) ** 2))

    def improvement(self, rows: IntArray, best: float) -> FloatArray:
        """Expected fall of log cost below ``best`` at rows (m,): (m,), in nats."""
        means, sigmas = self.predict(rows)
        z = (best - means) / sigmas
        density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
        return np.asarray(self.weights @ (sigmas * (z * ndtr(z) + density)))

    def rough_mean(self) -> FloatArray:
        """Mixture mean of every row by linear effects alone: what a shortlist is drawn from."""
        total = np.zeros(len(self.features))
        for weight, rival, posterior in zip(
            self.weights, self.rivals, self.posteriors, strict=True
        ):
            if weight < 0.01:
                continue
            level, effects = posterior.linear_effects()
            total += weight * (rival.mean + level + rival.basis @ effects)
        return total


@dataclass(frozen=True)
class FitBelief:
    """Rivals for memory with their posterior odds, and what crashes say besides memory."""

    beliefs: tuple[MemoryBelief, ...]
    blames_crashes: tuple[bool, ...]
    weights: FloatArray

    @classmethod
    def condition(
        cls, priors: Sequence[tuple[MemoryPrior, float]], facts: MemoryFacts, crashed: IntArray
    ) -> FitBelief:
        """Conditions (prior, odds) pairs on facts, with crashed rows blamed on memory and not."""
        suspects = replace(facts, beyond=np.concatenate([facts.beyond, crashed]))
        beliefs, blames, odds, evidence = [], [], [], []
        for prior, weight in priors:
            for blame in (False, True) if len(crashed) else (False,):
                belief = MemoryBelief.condition(prior, suspects if blame else facts)
                beliefs.append(belief)
                blames.append(blame)
                odds.append(weight)
                chance = 0.0 if blame else len(crashed) * math.log(CRASH_RATE)
                evidence.append(belief.log_evidence + chance)
        weights = _odds(np.array(odds), np.array(evidence))
        return cls(tuple(beliefs), tuple(blames), weights)

    def fits(self, rows: IntArray) -> FloatArray:
        """Probability that each row runs as far as memory, or what crashed so far, tells: (m,)."""
        total = np.zeros(len(rows))
        for weight, belief in zip(self.weights, self.beliefs, strict=True):
            if weight >= 0.001:
                total += weight * belief.fits(rows)
        return total

    def log_ratio(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mixture mean and deviation of log(peak / capacity): two arrays (m,)."""
        pairs = [belief.log_ratio(rows) for belief in self.beliefs]
        means, sigmas = np.array([m for m, _ in pairs]), np.array([s for _, s in pairs])
        mean = self.weights @ means
        return mean, np.sqrt(self.weights @ (sigmas**2 + (means - mean) ** 2))


def explain_memory(features: Features, prior: CostPrior | None) -> list[tuple[MemoryPrior, float]]:
    """The rivals for log(peak / capacity), each with its prior odds."""
    slopes = [MEMORY_SLOPES.get(name, OTHER_MEMORY_SLOPE) for name in features.names]
    known = any(name in MEMORY_SLOPES for name in features.names)
    expected = features.values @ np.array([mean for mean, _ in slopes])
    expected = expected - (float(np.median(expected)) if len(expected) else 0.0)
    level = -0.4 if known else -1.5
    basis = np.column_stack([np.ones(len(expected)), features.values])
    widths = np.array([0.8, *(sigma for _, sigma in slopes)])
    blind = MemoryPrior(expected + level, basis, expected + level, basis, widths, 0.15)
    if prior is None:
        return [(blind, 1.0)]
    doubted = replace(prior.memory, sigma=3.0 * prior.memory.sigma)
    return [(prior.memory, 0.75), (doubted, 0.20), (blind, 0.05)]


def _odds(prior: FloatArray, log_evidence: FloatArray) -> FloatArray:
    scores = np.log(prior) + log_evidence
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum())
