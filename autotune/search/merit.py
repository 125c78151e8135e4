"""What trials are compared by: one figure of a measurement, and its sense.

The search works on log cost (less is better), so that a change of 5% is the same distance at
every speed and a failed trial never needs a made-up figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autotune.space.limits import Objective
from autotune.trial import SMALLER, Interval, Measurement, Outcome, TrialRecord


def merit(measurement: Measurement, objective: Objective) -> Interval | None:
    """The figure that the objective names, None where this measurement lacks it.

    A figure of the user's own command (``Measurement.objective``) stands for whatever the
    objective names. Tokens/s fall back to steps per second where tokens are not known. A time
    to train whose trials first look at the throughput is searched by the seconds of a sample.
    """
    if objective.metric == "time_to_target_s" and measurement.sample_time_s is not None:
        return measurement.sample_time_s
    if measurement.objective is not None:
        return measurement.objective
    metric = objective.metric
    if metric == "step_time_s":
        return measurement.step_time_s
    if metric == "tokens_per_s":
        return measurement.tokens_per_s or _inverse(measurement.step_time_s)
    if metric == "cost_per_token":
        return _cost_per_token(measurement, objective.price_per_gpu_hour or 1.0)
    value = getattr(measurement, metric, None)
    return Interval(value, value, value) if isinstance(value, float) else None


def log_cost(record: TrialRecord, objective: Objective) -> float | None:
    """Log of the figure, turned so that less is better; None for what did not run to a figure."""
    if record.outcome is not Outcome.OK or record.measurement is None:
        return None
    figure = merit(record.measurement, objective)
    if figure is None or not math.isfinite(figure.value) or figure.value <= 0.0:
        return None
    return -math.log(figure.value) if objective.maximize else math.log(figure.value)


def pareto_front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials that no other beats in both tokens/s and peak memory, fastest first.

    The slower ends of the front are what leaves room for longer sequences.
    """
    points = [
        (record.measurement.tokens_per_s.value, record.measurement.peak_memory_gib, record)
        for record in records
        if record.outcome is Outcome.OK
        and record.fidelity not in SMALLER
        and record.measurement is not None
        and record.measurement.tokens_per_s is not None
        and record.measurement.peak_memory_gib is not None
    ]
    front: list[TrialRecord] = []
    lowest = math.inf
    for _, memory, record in sorted(points, key=lambda p: (-p[0], p[1], p[2].number)):
        if memory < lowest:
            front.append(record)
            lowest = memory
    return front


def _cost_per_token(measurement: Measurement, price_per_gpu_hour: float) -> Interval | None:
    """What the GPUs cost while they train on one token, in the price's currency."""
    rate, per_gpu = measurement.tokens_per_s, measurement.tokens_per_s_per_gpu
    seconds = _inverse(rate) if rate else None
    if rate is None or seconds is None or not per_gpu:
        return None
    price = price_per_gpu_hour / 3600.0 * rate.value / per_gpu
    return Interval(seconds.value * price, seconds.low * price, seconds.high * price)


def _inverse(figure: Interval) -> Interval | None:
    if figure.value <= 0.0:
        return None
    return Interval(1.0 / figure.value, 1.0 / figure.high, 1.0 / figure.low)
