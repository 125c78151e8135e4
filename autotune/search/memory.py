"""Whether a config fits, learned from peaks that were seen and from runs that ended out of memory.

A linear-Gaussian model of log(peak memory / capacity): a prior mean per row, a few effects with
prior widths, and what no effect explains. A peak is an exact observation, an out-of-memory end
says only "above capacity", a run without a figure only "below": censored observations, joined
by Laplace's approximation around the one optimum (the log posterior is concave).

Rows that are kin (the same layout, the same states on a GPU) share most of what no effect
explains, so that one out-of-memory speaks for all of its kin: were each variant of a layout a
fresh draw of luck, a search would try them all.
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
    ``sigma`` the deviation of a single config that no effect explains. ``kin`` (rows, g) numbers
    the family of each row under g groupings; members share ``kin_shares`` (g,) of the variance.
    ``alike`` says which rows are one and the same to this prior: the first row of each kind, and
    the kind (rows,) of each row; None where all differ.
    """

    mean: FloatArray
    basis: FloatArray
    shown: FloatArray
    shown_basis: FloatArray
    widths: FloatArray
    sigma: float
    kin: IntArray
    kin_shares: tuple[float, ...] = ()
    alike: tuple[IntArray, IntArray] | None = None

    @property
    def own_sigma(self) -> float:
        """Deviation of a single config from its kin."""
        return self.sigma * math.sqrt(1.0 - sum(self.kin_shares))


def no_kin(rows: int) -> IntArray:
    """No groupings of ``rows`` rows."""
    return np.zeros((rows, 0), dtype=np.int64)


@dataclass(frozen=True)
class Families:
    """The families that have been seen, one effect each: what they have in common."""

    prior: MemoryPrior
    position: tuple[IntArray, ...]
    """By grouping: family number -> column among the seen ones, -1 for families never seen."""
    widths: FloatArray

    @classmethod
    def of(cls, prior: MemoryPrior, seen: IntArray) -> Families:
        """The families of the rows ``seen``."""
        position: list[IntArray] = []
        widths: list[float] = []
        for members, share in zip(prior.kin.T, prior.kin_shares, strict=True):
            known = np.unique(members[seen])
            at = np.full(int(members.max(initial=-1)) + 1, -1, dtype=np.int64)
            at[known] = len(widths) + np.arange(len(known))
            position.append(at)
            widths += [prior.sigma * math.sqrt(share)] * len(known)
        return cls(prior, tuple(position), np.array(widths))

    def basis(self, rows: IntArray) -> FloatArray:
        """Effects of rows (m,) on their seen families, after the prior's own: (m, columns)."""
        out = np.zeros((len(rows), len(self.widths)))
        for members, at in zip(self.prior.kin.T, self.position, strict=True):
            column = at[members[rows]]
            known = np.flatnonzero(column >= 0)
            out[known, column[known]] = 1.0
        return out

    def spread(self, rows: IntArray) -> FloatArray:
        """Variance (m,) that seen families do not tell: the row's own, and unseen families'."""
        variance = np.full(len(rows), self.prior.own_sigma**2)
        shares = self.prior.kin_shares
        for members, at, share in zip(self.prior.kin.T, self.position, shares, strict=True):
            variance += (at[members[rows]] < 0) * share * self.prior.sigma**2
        return variance

    def shift(self, effects: FloatArray, rows: IntArray) -> FloatArray:
        """What the families' effects add to rows (m,): (m,)."""
        total = np.zeros(len(rows))
        padded = np.append(effects, 0.0)
        for members, at in zip(self.prior.kin.T, self.position, strict=True):
            total += padded[at[members[rows]]]
        return total


@dataclass(frozen=True)
class MemoryFacts:
    """Rows whose log(peak / capacity) was seen, rows that ran without a figure, rows beyond."""

    seen: IntArray
    seen_log: FloatArray
    ran: IntArray
    beyond: IntArray

    @property
    def count(self) -> int:
        """How many rows there are in all."""
        return len(self.seen) + len(self.ran) + len(self.beyond)

    def thinned(self, most: int) -> MemoryFacts:
        """About ``most`` of them, evenly."""
        some = slice(None, None, max(1, self.count // most))
        return MemoryFacts(self.seen[some], self.seen_log[some], self.ran[some], self.beyond[some])


@dataclass(frozen=True)
class MemoryBelief:
    """The prior after some facts; ``log_evidence`` says how well it had expected them.

    ``effects`` are the prior's own, then those of the families seen.
    """

    prior: MemoryPrior
    families: Families
    effects: FloatArray
    covariance: FloatArray
    log_evidence: float

    @classmethod
    def condition(cls, prior: MemoryPrior, facts: MemoryFacts) -> MemoryBelief:
        """Newton's method to the optimum, then Laplace: at most 30 steps of k by k."""
        families = Families.of(prior, np.concatenate([facts.seen, facts.ran, facts.beyond]))
        likelihood = _Likelihood.of(prior, families, facts)
        widths = np.concatenate([prior.widths, families.widths])
        precision = np.diag(1.0 / widths**2)
        effects = np.zeros(len(widths))
        value, gradient, curvature = likelihood.at(effects)
        for _ in range(30):
            slope = gradient - precision @ effects
            step = np.linalg.solve(curvature + precision, slope)
            now = value - 0.5 * effects @ precision @ effects
            scale = 1.0
            while scale > 1e-3:
                moved = effects + scale * step
                value, gradient, curvature = likelihood.at(moved)
                if value - 0.5 * moved @ precision @ moved >= now - 1e-9:
                    break
                scale *= 0.5
            effects = moved
            if np.abs(scale * step).max(initial=0.0) < 1e-5:
                break
        whole = curvature + precision
        penalty = 0.5 * float(effects @ precision @ effects)
        spread = 0.5 * float(np.linalg.slogdet(whole)[1] + 2.0 * np.log(widths).sum())
        covariance = np.asarray(np.linalg.inv(whole), dtype=np.float64)
        return cls(prior, families, effects, covariance, value - penalty - spread)

    def log_ratio(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation of log(peak / capacity) at rows (m,): two arrays (m,)."""
        basis = np.hstack([self.prior.basis[rows], self.families.basis(rows)])
        mean = self.prior.mean[rows] + basis @ self.effects
        variance = ((basis @ self.covariance) * basis).sum(1) + self.families.spread(rows)
        return mean, np.sqrt(variance)

    def rough_fits(self, rows: IntArray) -> FloatArray:
        """Probability that each row (m,) stays below capacity, its effects taken as known: (m,)."""
        first, alike = self.prior.alike or (rows, rows)
        if len(first) < len(rows):
            return self._rough_fits(first)[alike[rows]]
        return self._rough_fits(rows)

    def _rough_fits(self, rows: IntArray) -> FloatArray:
        own, prior = len(self.prior.widths), self.prior
        if 4 * len(rows) > len(prior.mean):  # copying so many rows takes longer than their sums
            mean = (prior.mean + prior.basis @ self.effects[:own])[rows]
        else:
            mean = prior.mean[rows] + prior.basis[rows] @ self.effects[:own]
        mean = mean + self.families.shift(self.effects[own:], rows)
        return np.asarray(ndtr(-mean / np.sqrt(self.families.spread(rows))))

    def fits(self, rows: IntArray) -> FloatArray:
        """Probability that each row's peak stays below capacity: (m,)."""
        mean, sigma = self.log_ratio(rows)
        return np.asarray(ndtr(-mean / sigma))


@dataclass(frozen=True)
class _Likelihood:
    """The facts as equations in the effects: exact ones, and (means, basis, sign) of bounds."""

    sigma: float
    seen: FloatArray
    seen_basis: FloatArray
    seen_curvature: FloatArray
    bounds: tuple[tuple[FloatArray, FloatArray, float], ...]

    @classmethod
    def of(cls, prior: MemoryPrior, families: Families, facts: MemoryFacts) -> _Likelihood:
        shown = np.hstack([prior.shown_basis[facts.seen], families.basis(facts.seen)])
        bounds = tuple(
            (prior.mean[rows], np.hstack([prior.basis[rows], families.basis(rows)]), sign)
            for rows, sign in ((facts.ran, -1.0), (facts.beyond, 1.0))
        )
        curvature = shown.T @ shown / prior.own_sigma**2
        seen = facts.seen_log - prior.shown[facts.seen]
        return cls(prior.own_sigma, seen, shown, curvature, bounds)

    def at(self, effects: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Log likelihood, its gradient and its negated curvature in the effects."""
        sigma = self.sigma
        error = (self.seen - self.seen_basis @ effects) / sigma
        value = -0.5 * float(error @ error) - len(error) * math.log(sigma * math.sqrt(2 * math.pi))
        gradient = self.seen_basis.T @ error / sigma
        curvature = self.seen_curvature
        for mean, basis, sign in self.bounds:
            z = sign * (mean + basis @ effects) / sigma
            log_p = log_ndtr(z)
            hazard = np.exp(-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - log_p)
            value += float(log_p.sum())
            gradient = gradient + sign * basis.T @ hazard / sigma
            curvature = curvature + (basis * (hazard * (hazard + z))[:, None]).T @ basis / sigma**2
        return value, gradient, curvature
