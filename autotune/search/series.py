"""What a series of step times says: where it is steady, its centre, and how sure that is.

The rules of peers (skip 3, average 5) call a compile step a slow config and two lucky steps a
fast one. Here warm-up and stalls are found in the series itself, and the interval holds at
every length at once, so it may be looked at after each step and acted upon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.trial import Interval

FloatArray = NDArray[np.float64]

ALPHA = 0.05
TRIM = 0.2
PRIOR_CV = 0.02
"""Relative noise of one step expected before any is seen; weighs as much as one step."""
MIXTURE = 0.02
"""Width of the mixture over effect sizes, chosen so that 3 to 30 steps bound tightest."""
FLOOR = 0.001
"""No interval is narrower than a log's rounding and a clock's drift, relative."""


@dataclass(frozen=True)
class Steady:
    """The part of a series that measures: its values, and what was left out of it."""

    values: FloatArray
    warmup: int
    stalls: int
    stall_share: float

    @property
    def interval(self) -> Interval:
        """The centre with its anytime-valid 95% interval; ValueError on an empty series."""
        return anytime_interval(self.values)


def find_steady(values: Sequence[float], stalls_rise: bool = True) -> Steady:
    """Drops the leading warm-up and compile steps, then isolated stalls, of a series.

    Warm-up ends at the first value near the median of the second half (within 5%, or 4 robust
    deviations of that half); at most half of the series is given to it. A stall is a later
    value beyond 1.5 medians and 8 robust deviations; where such values are more than a fifth
    they are no accident and stay. ``stalls_rise`` is False for rates, whose stalls are dips:
    those are left to the trimmed centre.
    """
    series = np.asarray(values, dtype=float)
    if series.size < 2:
        return Steady(series, 0, 0, 0.0)
    half = series.size // 2
    reference, spread = _centre_and_spread(series[half:])
    near = np.abs(series[:half] - reference) <= max(0.05 * abs(reference), 4.0 * spread)
    warmup = int(np.argmax(near)) if near.any() else half
    rest = series[warmup:]
    centre, spread = _centre_and_spread(rest)
    stalled = rest > max(1.5 * abs(centre), centre + 8.0 * spread)
    if not stalls_rise or stalled.mean() > 0.2:
        stalled[:] = False
    share = float(rest[stalled].sum() / rest.sum()) if rest.sum() > 0 else 0.0
    return Steady(rest[~stalled], warmup, int(stalled.sum()), share)


def _centre_and_spread(values: FloatArray) -> tuple[float, float]:
    centre = float(np.median(values))
    return centre, 1.4826 * float(np.median(np.abs(values - centre)))


def anytime_interval(values: Sequence[float] | FloatArray, alpha: float = ALPHA) -> Interval:
    """Trimmed mean with an interval that holds at all lengths at once.

    The width is that of the e-process of the t-test with a Gaussian mixture (Lindon et al.,
    arXiv:2210.08589, eq. 12; Perez-Ortiz et al., arXiv:2208.07610), on Winsorised variance
    (Tukey and McLaughlin), with one step's worth of prior noise, over the effective number of
    steps of an AR(1) series; never below half of the centre or above twice it, as times and
    rates are scales. ValueError on an empty series.
    """
    series = np.sort(np.asarray(values, dtype=float))
    count = series.size
    if count == 0:
        raise ValueError("no steps to measure")
    cut = int(TRIM * count)
    middle = series[cut : count - cut]
    centre = float(middle.mean())
    clipped = np.clip(series, middle[0], middle[-1])
    squares = float(((clipped - clipped.mean()) ** 2).sum()) / (1.0 - 2.0 * cut / count) ** 2
    freedom = float(count)
    scale = math.sqrt((squares + (PRIOR_CV * centre) ** 2) / freedom)
    effective = count * _independent_share(np.asarray(values, dtype=float))
    radius = scale / math.sqrt(effective) * _anytime_t(effective, freedom, alpha)
    radius = max(radius, FLOOR * abs(centre))
    low = max(centre - radius, centre - 0.5 * abs(centre))
    return Interval(centre, low, min(centre + radius, centre + abs(centre)))


def _anytime_t(count: float, freedom: float, alpha: float) -> float:
    """The t statistic at which the mixture e-process reaches 1/alpha; inf where it cannot."""
    ratio = MIXTURE / (MIXTURE + count)
    growth = (1.0 / (alpha * math.sqrt(ratio))) ** (2.0 / (freedom + 1.0))
    if growth * ratio >= 1.0:
        return math.inf
    return math.sqrt(freedom * (growth - 1.0) / (1.0 - growth * ratio))


def _independent_share(series: FloatArray) -> float:
    """Effective steps per step of an AR(1) series, its correlation corrected for small bias."""
    count = series.size
    if count < 4:
        return 1.0
    centre, spread = _centre_and_spread(series)
    centred = np.clip(series - centre, -4.0 * spread, 4.0 * spread)
    power = float(centred @ centred)
    if power <= 0.0:
        return 1.0
    correlation = float(centred[1:] @ centred[:-1]) / power
    correlation = min(max(correlation + (1.0 + 3.0 * correlation) / count, 0.0), 0.95)
    return max((1.0 - correlation) / (1.0 + correlation), 1.5 / count)
