"""How figures are written for people: units, intervals, one style everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotune.trial import Interval, Outcome, TrialRecord

UNITS = {
    "tokens_per_s": "tokens/s",
    "step_time_s": "s/step",
    "tflops_per_gpu": "TFLOP/s/GPU",
    "peak_memory_gib": "GiB",
    "time_to_target_s": "s to target",
}


def unit(metric: str) -> str:
    """The unit a metric is shown with."""
    return UNITS.get(metric, metric)


def number(value: float | None) -> str:
    """Four significant digits, thousands grouped; n/a for none."""
    if value is None:
        return "n/a"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def interval(value: Interval | None) -> str:
    """A value with the half-width of its 95% interval."""
    if value is None:
        return "n/a"
    half = (value.high - value.low) / 2
    return f"{number(value.value)} ± {number(half)}" if half > 0 else number(value.value)


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3 min 20 s, or 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def gain(value: Interval | None) -> str:
    """A gain as 1.23x with its interval."""
    if value is None:
        return "n/a"
    return f"{value.value:.2f}x ({value.low:.2f} to {value.high:.2f})"


def changes(values: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Parameter, baseline's value, new value, for every parameter that differs."""
    return [
        (name, shown(baseline.get(name)), shown(value))
        for name, value in values.items()
        if value != baseline.get(name)
    ]


def shown(value: Any) -> str:
    """A parameter's value as a space would write it."""
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def objective_of(record: TrialRecord) -> Interval | None:
    """A trial's deciding figure; none for a failed one, whatever it printed before it died."""
    if record.outcome is not Outcome.OK or record.measurement is None:
        return None
    return record.measurement.objective
