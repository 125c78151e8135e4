"""How several times to train become one score, as MLPerf Training scores them.

A time to train is noisy, since it ends at the first evaluation that meets the target; so a
benchmark is run several times, and the luckiest and the unluckiest run do not count.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

RUNS_TO_DROP_FROM = 5
"""Runs from which on the extremes are dropped: fewer would leave less than three to average."""


def olympic_mean(times_s: Sequence[float]) -> float:
    """Mean time in seconds without the fastest and the slowest run, the plain mean below five.

    Source: MLPerf Training rules, section "Results": drop the lowest and the highest, average
    the rest. A run that never met the target counts as infinite: one of five is dropped as the
    slowest, two make the score infinite. ValueError without any run, or for a time that is
    negative or not a number.
    """
    if not times_s:
        raise ValueError("no run to score")
    if any(math.isnan(time) or time < 0 for time in times_s):
        raise ValueError(f"times to train are seconds, not {list(times_s)}")
    kept = sorted(times_s)
    if len(kept) >= RUNS_TO_DROP_FROM:
        kept = kept[1:-1]
    return statistics.fmean(kept)
