"""Whether a config fits, learned from peaks that were seen and from runs that ended out of memory.

A linear-Gaussian model of log(peak memory / capacity): a prior mean per row, a few effects with
prior widths, and what no effect explains. A peak is an exact observation, an out-of-memory end
says only "above capacity", a run without a figure only "below": censored observations, joined
by Laplace's approximation around the one optimum (the log posterior is concave). The optimum is
sought in the space of the facts, as in Rasmussen and Williams, Gaussian Processes for Machine
Learning, algorithms 3.1 and 3.2.

Rows that are kin (the same layout, the same states on a GPU) share most of what no effect
explains, so that one out-of-memory speaks for all of its kin: were each variant of a layout a
fresh draw of luck, a search would try them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import log_ndtr, ndtr

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CLOSE = 1e-4
"""Newton's last step, in log memory; each step squares the error of the one before."""


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

    def columns(self, rows: IntArray) -> IntArray:
        """The seen families of rows (m,), by grouping, -1 for families never seen: (m, g)."""
        found = np.empty((len(rows), len(self.position)), dtype=np.int64)
        for k, at in enumerate(self.position):
            found[:, k] = at[self.prior.kin[rows, k]]
        return found

    def basis(self, rows: IntArray) -> FloatArray:
        """Effects of rows (m,) on their seen families, after the prior's own: (m, columns)."""
        out = np.zeros((len(rows), len(self.widths) + 1))
        out[np.arange(len(rows))[:, None], self.columns(rows)] = 1.0
        return out[:, :-1]

    def spread(self, columns: IntArray) -> FloatArray:
        """Variance that seen families (m, g) do not tell: a row's own, and unseen families'."""
        shares = np.array(self.prior.kin_shares)
        return np.asarray(self.prior.own_sigma**2 + (columns < 0) @ shares * self.prior.sigma**2)


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
        return len(self.rows)

    @property
    def bounds(self) -> IntArray:
        """Rows of which only a bound is known."""
        return np.concatenate([self.ran, self.beyond])

    @property
    def rows(self) -> IntArray:
        """All of them, those seen first."""
        return np.concatenate([self.seen, self.bounds])

    def thinned(self, most: int) -> MemoryFacts:
        """About ``most`` of them, evenly."""
        some = slice(None, None, max(1, self.count // most))
        return MemoryFacts(self.seen[some], self.seen_log[some], self.ran[some], self.beyond[some])


@dataclass(frozen=True)
class MemoryBelief:
    """The prior after some facts; ``log_evidence`` says how well it had expected them.

    ``effects`` (k,) are the prior's own, then those of the families seen, ``deviations`` theirs
    before any fact; ``explained`` (facts, k) is the root of the share of variance that is gone.
    """

    prior: MemoryPrior
    families: Families
    effects: FloatArray
    deviations: FloatArray
    explained: FloatArray
    log_evidence: float

    @classmethod
    def condition(cls, prior: MemoryPrior, facts: MemoryFacts) -> MemoryBelief:
        """Newton's method to the optimum, then Laplace: at most 30 steps of facts by facts."""
        families = Families.of(prior, facts.rows)
        deviations = np.concatenate([prior.widths, families.widths])
        basis = np.vstack([prior.shown_basis[facts.seen], prior.basis[facts.bounds]])
        scaled = np.hstack([basis, families.basis(facts.rows)]) * deviations
        optimum = _Optimum.found(scaled, _Likelihood.of(prior, facts))
        root = optimum.root[:, None] * scaled
        return cls(
            prior=prior,
            families=families,
            effects=deviations * (scaled.T @ optimum.weights),
            deviations=deviations,
            explained=solve_triangular(optimum.factor, root, lower=True, check_finite=False),
            log_evidence=optimum.log_evidence,
        )

    @cached_property
    def _covariance(self) -> FloatArray:
        """Of the effects (k + 1, k + 1): a family never seen, at -1, has none."""
        left = np.eye(len(self.effects)) - self.explained.T @ self.explained
        return np.pad(left * self.deviations * self.deviations[:, None], (0, 1))

    def log_ratio(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation of log(peak / capacity) at rows (m,): two arrays (m,)."""
        own, covariance = len(self.prior.widths), self._covariance
        basis, columns = self.prior.basis[rows], self.families.columns(rows)
        mean = self.prior.mean[rows] + basis @ self.effects[:own] + self._shift(columns)
        variance = ((basis @ covariance[:own, :own]) * basis).sum(1) + self.families.spread(columns)
        at = np.where(columns < 0, -1, own + columns).T
        for k, family in enumerate(at):
            variance += 2.0 * (basis * covariance[family, :own]).sum(1)
            variance += covariance[family, family]
            for other in at[:k]:
                variance += 2.0 * covariance[family, other]
        return mean, np.sqrt(variance)

    def _shift(self, columns: IntArray) -> FloatArray:
        """What the effects of seen families (m, g) add: (m,)."""
        effects = np.append(self.effects[len(self.prior.widths) :], 0.0)
        return np.asarray(effects[columns].sum(1))

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
        columns = self.families.columns(rows)
        mean = mean + self._shift(columns)
        return np.asarray(ndtr(-mean / np.sqrt(self.families.spread(columns))))

    def fits(self, rows: IntArray) -> FloatArray:
        """Probability that each row's peak stays below capacity: (m,)."""
        mean, sigma = self.log_ratio(rows)
        return np.asarray(ndtr(-mean / sigma))


@dataclass(frozen=True)
class _Likelihood:
    """The facts in terms of what the effects add at them: what was seen, then bounds by sign."""

    sigma: float
    seen: FloatArray
    bounds: FloatArray
    sign: FloatArray

    @classmethod
    def of(cls, prior: MemoryPrior, facts: MemoryFacts) -> _Likelihood:
        return cls(
            prior.own_sigma,
            facts.seen_log - prior.shown[facts.seen],
            prior.mean[facts.bounds],
            np.repeat([-1.0, 1.0], [len(facts.ran), len(facts.beyond)]),
        )

    def at(self, added: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Log likelihood, its gradient and its negated curvature (facts,) in what is added."""
        sigma, count = self.sigma, len(self.seen)
        error = (self.seen - added[:count]) / sigma
        z = self.sign * (self.bounds + added[count:]) / sigma
        log_p = log_ndtr(z)
        hazard = np.exp(-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - log_p)
        value = -0.5 * float(error @ error) - count * math.log(sigma * math.sqrt(2 * math.pi))
        gradient = np.concatenate([error, self.sign * hazard]) / sigma
        curvature = np.concatenate([np.ones(count), hazard * (hazard + z)]) / sigma**2
        return value + float(log_p.sum()), gradient, np.maximum(curvature, 0.0)


@dataclass(frozen=True)
class _Optimum:
    """Where prior and facts agree best: ``scaled.T @ weights`` are the effects in deviations.

    ``root`` (facts,) of the curvature there, ``factor`` the Cholesky factor of what it makes of
    the prior covariance.
    """

    weights: FloatArray
    root: FloatArray
    factor: FloatArray
    log_evidence: float

    @classmethod
    def found(cls, scaled: FloatArray, likelihood: _Likelihood) -> _Optimum:
        """By Newton's method with halved steps, for facts (n, k) that effects make as expected."""
        covariance = scaled @ scaled.T
        weights = added = np.zeros(len(scaled))
        value, gradient, curvature = likelihood.at(added)
        for _ in range(30):
            root = np.sqrt(curvature)
            pull = curvature * added + gradient
            inner = root * (covariance @ pull)
            solved = cho_solve((_factor(covariance, root), True), inner, check_finite=False)
            step = pull - root * solved - weights
            along = covariance @ step
            before, scale = value - 0.5 * float(weights @ added), 1.0
            while scale > 1e-3:
                value, gradient, curvature = likelihood.at(added + scale * along)
                after = value - 0.5 * float((weights + scale * step) @ (added + scale * along))
                if after >= before - 1e-9:
                    break
                scale *= 0.5
            weights, added = weights + scale * step, added + scale * along
            if np.abs(scale * along).max(initial=0.0) < CLOSE:
                break
        root = np.sqrt(curvature)
        factor = _factor(covariance, root)
        penalty = 0.5 * float(weights @ added) + float(np.log(np.diag(factor)).sum())
        return cls(weights, root, factor, value - penalty)


def _factor(covariance: FloatArray, root: FloatArray) -> FloatArray:
    """Cholesky factor of 1 + root covariance root."""
    whole = covariance * root * root[:, None]
    whole[np.diag_indices(len(root))] += 1.0
    return np.asarray(cholesky(whole, lower=True, overwrite_a=True, check_finite=False))
