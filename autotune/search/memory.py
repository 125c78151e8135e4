"""Whether a config fits, learned from peaks that were seen and from runs that ended out of memory.

A linear-Gaussian model of log(peak memory / capacity): a prior mean per row, a few effects with
prior widths, and what no effect explains. A peak is an exact observation, an out-of-memory end
says only "above capacity", a run without a figure only "below": censored observations, joined
by Laplace's approximation around the one optimum (the log posterior is concave).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class MemoryPrior:
    """What is believed of log(peak / capacity) of every row before any trial.

    ``mean`` is (rows,) of what the device needs, ``shown`` (rows,) of what a log shows of it;
    ``basis`` and ``shown_basis`` (rows, k) are their effects with deviations ``widths`` (k,),
    ``sigma`` the deviation of a single config that no effect explains.
    """

    mean: FloatArray
    basis: FloatArray
    shown: FloatArray
    shown_basis: FloatArray
    widths: FloatArray
    sigma: float


@dataclass(frozen=True)
class MemoryFacts:
    """Rows whose log(peak / capacity) was seen, rows that ran without a figure, rows beyond."""

    seen: IntArray
    seen_log: FloatArray
    ran: IntArray
    beyond: IntArray


@dataclass(frozen=True)
class MemoryBelief:
    """The prior after some facts; ``log_evidence`` says how well it had expected them."""

    prior: MemoryPrior
    effects: FloatArray
    covariance: FloatArray
    log_evidence: float

    @classmethod
    def condition(cls, prior: MemoryPrior, facts: MemoryFacts) -> MemoryBelief:
        """Newton's method to the optimum, then Laplace: at most 30 steps of k by k."""
        precision = np.diag(1.0 / prior.widths**2)
        effects = np.zeros(len(prior.widths))
        value, gradient, curvature = _log_likelihood(prior, facts, effects)
        for _ in range(30):
            slope = gradient - precision @ effects
            step = np.linalg.solve(curvature + precision, slope)
            now = value - 0.5 * effects @ precision @ effects
            scale = 1.0
            while scale > 1e-3:
                moved = effects + scale * step
                value, gradient, curvature = _log_likelihood(prior, facts, moved)
                if value - 0.5 * moved @ precision @ moved >= now - 1e-9:
                    break
                scale *= 0.5
            effects = moved
            if np.abs(scale * step).max(initial=0.0) < 1e-5:
                break
        whole = curvature + precision
        penalty = 0.5 * float(effects @ precision @ effects)
        spread = 0.5 * float(np.linalg.slogdet(whole)[1] + 2.0 * np.log(prior.widths).sum())
        covariance = np.asarray(np.linalg.inv(whole), dtype=np.float64)
        return cls(prior, effects, covariance, value - penalty - spread)

    def log_ratio(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation of log(peak / capacity) at rows (m,): two arrays (m,)."""
        basis = self.prior.basis[rows]
        mean = self.prior.mean[rows] + basis @ self.effects
        variance = ((basis @ self.covariance) * basis).sum(1) + self.prior.sigma**2
        return mean, np.sqrt(variance)

    def rough_fits(self) -> FloatArray:
        """Probability that each of all rows stays below capacity, its effects taken as known."""
        mean = self.prior.mean + self.prior.basis @ self.effects
        return np.asarray(ndtr(-mean / self.prior.sigma))

    def fits(self, rows: IntArray) -> FloatArray:
        """Probability that each row's peak stays below capacity: (m,)."""
        mean, sigma = self.log_ratio(rows)
        return np.asarray(ndtr(-mean / sigma))


def _log_likelihood(
    prior: MemoryPrior, facts: MemoryFacts, effects: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Log likelihood of the facts, its gradient and its negated curvature in the effects."""
    sigma = prior.sigma
    basis = prior.shown_basis[facts.seen]
    error = (facts.seen_log - prior.shown[facts.seen] - basis @ effects) / sigma
    value = -0.5 * float(error @ error) - len(error) * math.log(sigma * math.sqrt(2 * math.pi))
    gradient = basis.T @ error / sigma
    curvature = basis.T @ basis / sigma**2
    for rows, sign in ((facts.ran, -1.0), (facts.beyond, 1.0)):
        basis = prior.basis[rows]
        z = sign * (prior.mean[rows] + basis @ effects) / sigma
        log_p = log_ndtr(z)
        hazard = np.exp(-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - log_p)
        value += float(log_p.sum())
        gradient = gradient + sign * basis.T @ hazard / sigma
        curvature = curvature + (basis * (hazard * (hazard + z))[:, None]).T @ basis / sigma**2
    return value, gradient, curvature
