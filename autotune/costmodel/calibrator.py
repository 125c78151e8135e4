"""Learns the constants of one study from its trials: a MAP fit with wide priors.

A step time or a peak memory is a point with log-normal error; an out-of-memory is a censored
observation: it says only that the need exceeds the card. Gauss-Newton on a dozen unknowns
takes milliseconds; many observations of similar rows are thinned, never ignored as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from autotune.costmodel.constants import MEMORY_CONSTANTS, TIME_CONSTANTS, Constants
from autotune.costmodel.table import Costs, CostTable

Floats = npt.NDArray[np.float64]
MOST_OBSERVATIONS = 400
_ROBUST = 3.0
_K = len(TIME_CONSTANTS)


@dataclass(frozen=True)
class Observation:
    """What one trial of table row ``row`` showed; None where it showed nothing."""

    row: int
    step_time_s: float | None = None
    memory_gib: float | None = None
    oom: bool = False


@dataclass(frozen=True)
class Calibration:
    """The posterior: constants (means, widths, residual sigmas) and their covariance."""

    constants: Constants
    covariance: Floats
    table: CostTable

    def predict(self, rows: npt.ArrayLike | None = None) -> Costs:
        """Predictions with posterior bands, for all rows or some."""
        table = self.table if rows is None else self.table.take(rows)
        return table.predict(self.constants, self.covariance)

    def probability_fits(self, rows: npt.ArrayLike | None = None) -> Floats:
        """Chance in [0, 1] that each row fits the card."""
        return self.predict(rows).probability_fits(self.table.capacity_gib)


class Calibrator:
    """Re-estimates the constants of one table from observations.

    ``allocated``: whether observed memory is the allocator's peak from the framework's log
    (True) or the device's use, context included (False).
    """

    def __init__(
        self, table: CostTable, constants: Constants | None = None, *, allocated: bool = True
    ) -> None:
        self.table = table
        self.prior = constants or table.constants
        self.allocated = allocated

    def fit(self, observations: Sequence[Observation]) -> Calibration:
        """The MAP constants given all observations so far; the prior when there are none."""
        seen = _thinned(observations)
        mean, time_cov, time_sigma = self._fit_time(seen)
        mean, memory_cov, memory_sigma = self._fit_memory(seen, mean)
        covariance = np.zeros((len(mean), len(mean)))
        covariance[:_K, :_K] = time_cov
        covariance[_K:, _K:] = memory_cov
        constants = replace(
            self.prior,
            mean=mean,
            sigma=np.sqrt(np.diag(covariance)),
            time_sigma=time_sigma,
            memory_sigma=memory_sigma,
            origin=f"{self.prior.origin}; {len(observations)} trials",
        )
        return Calibration(constants, covariance, self.table)

    def _fit_time(self, seen: Sequence[Observation]) -> tuple[Floats, Floats, float]:
        timed = [o for o in seen if o.step_time_s is not None and o.step_time_s > 0]
        prior, noise = self.prior, self.prior.time_sigma
        mean = prior.mean.copy()
        precision = np.diag(1.0 / prior.sigma[:_K] ** 2)
        if not timed:
            return mean, np.linalg.inv(precision), noise
        table = self.table.take([o.row for o in timed])
        target = np.log([o.step_time_s for o in timed])
        information = precision
        for _ in range(6):
            residual = target - np.log(table.step_time(mean))
            jacobian = table.time_sensitivity(mean)
            weight = _huber(residual / noise) / noise**2
            information = (jacobian * weight[:, None]).T @ jacobian + precision
            pull = jacobian.T @ (weight * residual) - precision @ (mean[:_K] - prior.mean[:_K])
            step = np.clip(np.linalg.solve(information, pull), -1.0, 1.0)
            mean[:_K] += step
            if np.abs(step).max() < 1e-3:
                break
        residual = target - np.log(table.step_time(mean))
        return mean, np.linalg.inv(information), _residual_sigma(residual, noise)

    def _fit_memory(
        self, seen: Sequence[Observation], mean: Floats
    ) -> tuple[Floats, Floats, float]:
        measured = [o for o in seen if o.memory_gib is not None and not o.oom]
        failed = [o for o in seen if o.oom]
        prior, noise = self.prior, self.prior.memory_sigma
        precision = np.diag(1.0 / prior.sigma[_K:] ** 2)
        if not measured and not failed:
            return mean, np.linalg.inv(precision), noise
        points = self.table.take([o.row for o in measured])
        censored = self.table.take([o.row for o in failed])
        target = np.log([o.memory_gib for o in measured])
        information = precision
        for _ in range(8):
            information = precision.copy()
            pull = -precision @ (mean[_K:] - prior.mean[_K:])
            if measured:
                value = points.allocated(mean) if self.allocated else points.device_memory(mean)
                residual = target - np.log(value)
                jacobian = points.memory_sensitivity(mean, self.allocated)
                weight = _huber(residual / noise) / noise**2
                information += (jacobian * weight[:, None]).T @ jacobian
                pull += jacobian.T @ (weight * residual)
            if failed:
                need = np.log(censored.device_memory(mean)) - np.log(self.table.capacity_gib)
                slope, curve = _censored(need / noise)
                jacobian = censored.memory_sensitivity(mean, False)
                information += (jacobian * (curve / noise**2)[:, None]).T @ jacobian
                pull += jacobian.T @ (slope / noise)
            step = np.clip(np.linalg.solve(information, pull), -0.5, 0.5)
            mean = mean.copy()
            mean[_K:] += step
            if np.abs(step).max() < 1e-3:
                break
        sigma = noise
        if measured:
            value = points.allocated(mean) if self.allocated else points.device_memory(mean)
            sigma = _residual_sigma(target - np.log(value), noise)
        return mean, np.linalg.inv(information), sigma


def _huber(scaled: Floats) -> Floats:
    """Weights that keep one broken measurement from moving every constant."""
    return np.asarray(np.minimum(1.0, _ROBUST / np.maximum(np.abs(scaled), 1e-9)))


def _residual_sigma(residual: Floats, prior: float, prior_count: float = 4.0) -> float:
    """Residual deviation shrunk to the prior's; outliers are clipped, not squared in."""
    clipped = np.minimum(np.abs(residual), _ROBUST * prior)
    return float(
        np.sqrt((prior_count * prior**2 + (clipped**2).sum()) / (prior_count + len(residual)))
    )


def _censored(need: Floats) -> tuple[Floats, Floats]:
    """Slope and curvature of log P(need > 0), the likelihood of an out-of-memory."""
    from scipy.special import log_ndtr  # costs 0.15 s, which a simulated trial has no use for

    ratio = np.exp(-0.5 * need**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(need))
    return ratio, np.maximum(ratio * (ratio + need), 1e-6)


def _thinned(observations: Sequence[Observation]) -> Sequence[Observation]:
    """At most MOST_OBSERVATIONS, evenly picked: enough for a dozen constants."""
    if len(observations) <= MOST_OBSERVATIONS:
        return observations
    picks = np.linspace(0, len(observations) - 1, MOST_OBSERVATIONS).astype(int)
    return [observations[i] for i in picks]


MEMORY_NAMES = MEMORY_CONSTANTS
