"""Learns the constants of one study from its trials: a MAP fit with wide priors.

A step time or a peak memory is a point with log-normal error; an out-of-memory is a censored
observation: it says only that the need exceeds the card (and a run whose memory nobody read
says that it does not). Gauss-Newton on a dozen unknowns
takes milliseconds; very many observations are thinned evenly, which a dozen constants bear.

A cluster that is slower throughout (a model or GPU misread, a clock capped) is one factor, the
pace: none most likely, but with a heavy tail, so that three trials which agree can teach any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from autotune.costmodel.constants import PACE, TIME_CONSTANTS, Constants
from autotune.costmodel.table import Costs, CostTable

Floats = npt.NDArray[np.float64]
MOST_OBSERVATIONS = 400
_ROUNDS = 8
_ROBUST = 2.5
_PRIOR_COUNT = 4.0
_AGREEING = 3
"""Trials that must agree before a pace far from none is thought of."""
_HELD = 1e12
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
    (True) or the device's use, context included (False). ``most`` bounds the observations used
    in one fit; None uses all. ``tail`` is how soon an odd measurement stops pulling: 2 for the
    few trials of a study, 1 for whole tables whose far rows are to be explained as well.
    ``own_pace``: whether all steps may be slower by one factor, that no constant explains.
    """

    def __init__(
        self,
        table: CostTable,
        constants: Constants | None = None,
        *,
        allocated: bool = True,
        most: int | None = MOST_OBSERVATIONS,
        tail: float = 2.0,
        own_pace: bool = True,
    ) -> None:
        self.table = table
        self.prior = constants or table.constants
        self.allocated = allocated
        self.most = most
        self.tail = tail
        self.own_pace = own_pace

    def fit(self, observations: Sequence[Observation]) -> Calibration:
        """The MAP constants given all observations so far; the prior when there are none."""
        seen = self._thinned(observations)
        mean = self.prior.mean.copy()
        covariance = np.zeros((len(mean), len(mean)))
        covariance[:_K, :_K], time_sigma = self._fit_time(seen, mean)
        covariance[_K:, _K:], memory_sigma = self._fit_memory(seen, mean)
        constants = replace(
            self.prior,
            mean=mean,
            sigma=np.sqrt(np.diag(covariance)),
            time_sigma=time_sigma,
            memory_sigma=memory_sigma,
            origin=f"{self.prior.origin}; {len(observations)} trials",
        )
        return Calibration(constants, covariance, self.table)

    def _thinned(self, observations: Sequence[Observation]) -> Sequence[Observation]:
        if self.most is None or len(observations) <= self.most:
            return observations
        picks = np.linspace(0, len(observations) - 1, self.most).astype(int)
        return [observations[i] for i in picks]

    def _fit_time(self, seen: Sequence[Observation], mean: Floats) -> tuple[Floats, float]:
        """Move the time constants of ``mean`` to their MAP; (covariance, residual sigma)."""
        rows = [o.row for o in seen if o.step_time_s]
        target = np.log(np.array([o.step_time_s for o in seen if o.step_time_s], dtype=float))
        noise, prior = self.prior.time_sigma, self.prior.mean[:_K]
        precision = np.diag(1.0 / self.prior.sigma[:_K] ** 2)
        if not rows:
            return np.asarray(np.linalg.inv(precision)), noise
        table = self.table.take(rows)
        if self.own_pace:
            mean[PACE] += _common(target - np.log(table.step_time(mean)), noise)
        information = precision
        for _ in range(_ROUNDS):
            precision[PACE, PACE] = self._pace_precision(mean[PACE])
            value, slopes = table.step_time_and_slopes(mean)
            learned, pull = _normal(slopes, target - np.log(value), noise, information, self.tail)
            information = learned + precision
            step = np.linalg.solve(information, pull - precision @ (mean[:_K] - prior))
            mean[:_K] += np.clip(step, -1.0, 1.0)
            if np.abs(step).max() < 1e-3:
                break
        residual = target - np.log(table.step_time(mean))
        return np.asarray(np.linalg.inv(information)), _residual_sigma(residual, noise)

    def _pace_precision(self, pace: float) -> float:
        """Of a prior that falls off like 1 / deviation beyond its width: any factor may be true."""
        if not self.own_pace:
            return _HELD
        width, apart = self.prior.sigma[PACE], pace - self.prior.mean[PACE]
        return float(1.0 / (width**2 + apart**2))

    def _fit_memory(self, seen: Sequence[Observation], mean: Floats) -> tuple[Floats, float]:
        """Move the memory constants of ``mean`` to their MAP; (covariance, residual sigma)."""
        measured = [o for o in seen if o.memory_gib and not o.oom]
        judged = [o for o in seen if o.oom or (o.step_time_s and not o.memory_gib)]
        edge = self.table.take([o.row for o in judged])
        side = np.array([1.0 if o.oom else -1.0 for o in judged])
        points = self.table.take([o.row for o in measured])
        target = np.log(np.array([o.memory_gib for o in measured], dtype=float))
        noise, prior = self.prior.memory_sigma, self.prior.mean[_K:]
        precision = np.diag(1.0 / self.prior.sigma[_K:] ** 2)
        information = precision
        residual = np.zeros(0)
        for _ in range(_ROUNDS if measured or judged else 0):
            value, slopes = points.memory_and_slopes(mean, self.allocated)
            residual = target - np.log(value)
            learned, pull = _normal(slopes, residual, noise, information, self.tail)
            need, slopes = edge.memory_and_slopes(mean, False)
            slope, curve = _censored(side * np.log(need / self.table.capacity_gib) / noise)
            information = learned + precision
            information += (slopes * (curve / noise**2)[:, None]).T @ slopes
            pull += slopes.T @ (side * slope / noise)
            step = np.linalg.solve(information, pull - precision @ (mean[_K:] - prior))
            mean[_K:] += np.clip(step, -0.5, 0.5)
            if np.abs(step).max() < 1e-3:
                break
        return np.asarray(np.linalg.inv(information)), _residual_sigma(residual, noise)


def _normal(
    slopes: Floats, residual: Floats, noise: float, information: Floats, tail: float
) -> tuple[Floats, Floats]:
    """(information, pull) of residuals; what is known by now can hardly explain weighs little.

    Weights of a heavy-tailed error, in units of noise and present uncertainty together: a
    broken measurement stops pulling, while a machine never seen (wide prior) may still be
    slower throughout.
    """
    unsure = (np.linalg.solve(information, slopes.T) * slopes.T).sum(axis=0)
    expected = _ROBUST**2 * (noise**2 + unsure)
    weight = (1.0 + residual**2 / expected) ** -tail / noise**2
    weighted = slopes * weight[:, None]
    return np.asarray(weighted.T @ slopes), np.asarray(weighted.T @ residual)


def _common(residual: Floats, noise: float) -> float:
    """What most residuals have in common at least; 0 where they are few or do not agree."""
    if len(residual) < _AGREEING:
        return 0.0
    low, high = np.quantile(residual, [0.2, 0.8], method="nearest")
    agree = high - low < 2.0 * _ROBUST * noise
    return float(max(low, 0.0) + min(high, 0.0)) if agree else 0.0


def _residual_sigma(residual: Floats, prior: float) -> float:
    """Residual deviation shrunk to the prior's; outliers are clipped, not squared in."""
    clipped = np.minimum(np.abs(residual), 3.0 * prior)
    total = _PRIOR_COUNT * prior**2 + float((clipped**2).sum())
    return float(np.sqrt(total / (_PRIOR_COUNT + len(residual))))


def _censored(need: Floats) -> tuple[Floats, Floats]:
    """Slope and curvature of log P(need > 0): out of memory, or (signs turned) a run that fits."""
    from scipy.special import log_ndtr

    ratio = np.exp(-0.5 * need**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(need))
    return ratio, np.maximum(ratio * (ratio + need), 1e-6)
