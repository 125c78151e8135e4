"""A small Gaussian process in numpy: what remains unexplained, and how well it is explained.

Written here because its whole job is one Cholesky factor of at most a few hundred points;
a library would bring torch or minutes of fitting to a decision that has milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

FloatArray = NDArray[np.float64]


ODD_DEVIATION = 1.0
"""Deviation, in nats, of a run that went wrong without failing: a slow node, a throttled link."""
ODD_LOG_ODDS = math.log(0.05)
MOST_ODD = 6


@dataclass(frozen=True)
class Kernel:
    """Covariance: an unknown level, linear effects, and a smooth remainder.

    ``level`` is the deviation of a constant; ``slopes`` the deviation of each linear effect;
    ``smooth`` and ``length`` the deviation and length scale of a Matern-5/2 term; ``noise``
    that of one measurement.
    """

    level: float
    slopes: FloatArray
    smooth: float
    length: float
    noise: float

    def between(self, basis_a: FloatArray, basis_b: FloatArray, likeness: FloatArray) -> FloatArray:
        """Covariance of points a (n) with points b (m), noise left out: (n, m).

        ``likeness`` (n, m) is their `matern` correlation at the kernel's length.
        """
        linear = np.asarray((basis_a * self.slopes**2) @ basis_b.T + self.level**2)
        if self.smooth <= 0.0:
            return linear
        return np.asarray(linear + self.smooth**2 * likeness)

    def variance(self, basis: FloatArray) -> FloatArray:
        """Prior variance of each point: (n,)."""
        return np.asarray((basis**2) @ (self.slopes**2) + self.level**2 + self.smooth**2)


def matern(x_a: FloatArray, x_b: FloatArray, length: float) -> FloatArray:
    """Matern-5/2 correlation of points (n, d) and (m, d): (n, m)."""
    square = (x_a**2).sum(1)[:, None] + (x_b**2).sum(1)[None, :] - 2.0 * x_a @ x_b.T
    distance = np.sqrt(np.maximum(square, 0.0)) * (math.sqrt(5.0) / length)
    return np.asarray((1.0 + distance + distance**2 / 3.0) * np.exp(-distance))


@dataclass(frozen=True)
class Posterior:
    """A kernel conditioned on residuals ``y`` seen at points of effects ``basis`` (n, k)."""

    kernel: Kernel
    basis: FloatArray
    factor: FloatArray
    weights: FloatArray
    log_evidence: float
    odd: NDArray[np.bool_]

    @classmethod
    def condition(
        cls,
        kernel: Kernel,
        basis: FloatArray,
        likeness: FloatArray,
        y: FloatArray,
        odd: NDArray[np.bool_] | None = None,
    ) -> Posterior:
        """Conditions on n >= 0 residuals; the evidence is the log density of ``y``.

        ``likeness`` (n, n) is the points' `matern` correlation at the kernel's length.
        Residuals marked ``odd`` (n,) are taken for broken runs: they weigh next to nothing, and
        each costs the evidence the odds of one.
        """
        count = len(y)
        odd = np.zeros(count, dtype=bool) if odd is None else odd
        if count == 0:
            return cls(kernel, basis, np.zeros((0, 0)), np.zeros(0), 0.0, odd)
        covariance = kernel.between(basis, basis, likeness)
        covariance[np.diag_indices(count)] += kernel.noise**2 + (ODD_DEVIATION * odd) ** 2
        factor = cholesky(covariance, lower=True, check_finite=False)
        weights = cho_solve((factor, True), y, check_finite=False)
        evidence = -0.5 * float(y @ weights) - float(np.log(np.diag(factor)).sum())
        evidence -= 0.5 * count * math.log(2 * math.pi) - ODD_LOG_ODDS * float(odd.sum())
        return cls(kernel, basis, factor, weights, evidence, odd)

    @classmethod
    def condition_robustly(
        cls, kernel: Kernel, basis: FloatArray, likeness: FloatArray, y: FloatArray
    ) -> Posterior:
        """Conditions on residuals of which some may be broken runs.

        Residuals that the others contradict most (leave-one-out, Rasmussen and Williams,
        section 5.4.2) are taken for odd one after another, as long as that explains more.
        """
        found = cls.condition(kernel, basis, likeness, y)
        for _ in range(min(MOST_ODD, len(y) // 3)):
            inverse = cho_solve((found.factor, True), np.eye(len(y)), check_finite=False)
            surprise = np.abs(found.weights) / np.sqrt(np.diag(inverse))
            surprise[found.odd] = 0.0
            worst = int(np.argmax(surprise))
            if surprise[worst] < 2.5:
                break
            odd = found.odd.copy()
            odd[worst] = True
            tried = cls.condition(kernel, basis, likeness, y, odd)
            if tried.log_evidence <= found.log_evidence:
                break
            found = tried
        return found

    @property
    def shown_spread(self) -> float:
        """Errors of leave-one-out predictions over their expected deviations: 1 is as expected.

        Odd residuals are left out; one error as expected is added to those that were seen.
        """
        kept = ~self.odd
        if not kept.any():
            return 1.0
        inverse = cho_solve((self.factor, True), np.eye(len(self.odd)), check_finite=False)
        square = self.weights[kept] ** 2 / np.diag(inverse)[kept]
        return math.sqrt((1.0 + float(square.sum())) / (1.0 + float(kept.sum())))

    def linear_effects(self) -> tuple[float, FloatArray]:
        """Posterior mean of the level and of each linear effect (k,)."""
        if not len(self.weights):
            return 0.0, np.zeros(len(self.kernel.slopes))
        level = self.kernel.level**2 * float(self.weights.sum())
        return level, np.asarray(self.kernel.slopes**2 * (self.basis.T @ self.weights))

    def predict(self, basis: FloatArray, likeness: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation of the residual at points (m, k) so like (m, n) the seen: two (m,)."""
        prior = self.kernel.variance(basis)
        if not len(self.weights):
            return np.zeros(len(basis)), np.sqrt(prior)
        cross = self.kernel.between(basis, self.basis, likeness)
        solved = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = prior - (solved**2).sum(0)
        return cross @ self.weights, np.sqrt(np.maximum(variance, 1e-12))
