"""How figures are written for people: units, intervals, one style everywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from autotune.config import SHORT_NAMES
from autotune.scoring import RUNS_TO_DROP_FROM
from autotune.trial import Interval, Outcome, TrialRecord

UNITS = {
    "tokens_per_s": "tokens/s",
    "step_time_s": "s/step",
    "tflops_per_gpu": "TFLOP/s/GPU",
    "peak_memory_gib": "GiB",
    "time_to_target_s": "s to target",
    "cost_per_token": "per token",
}

WHY = 100
PREFIX = re.compile(r"^(\w+) \(rank ([^)]*)\): (?:\[rank\d+\]: )?")
"""How a reason names its kind and ranks, and how torchrun names them once more."""


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
    """A gain as 1.23x with its interval; of one run each (a seed, say) nothing tells the spread."""
    if value is None:
        return "n/a"
    if value.low == value.high:
        return f"{value.value:.2f}x (no spread measured)"
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


def short(name: str, value: Any) -> str:
    """One value in short: tp4, recompute=none, +sp, -overlap_grad_reduce; inactive ones vanish."""
    word = SHORT_NAMES.get(name, name)
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"+{word}" if value else f"-{word}"
    return f"{word}{value}" if isinstance(value, int) and word != name else f"{word}={value}"


def label(record: TrialRecord, baseline: Mapping[str, Any] | None = None) -> str:
    """What a trial changes against the baseline, in short names; its kind where it is special."""
    changed = [
        short(name, value)
        for name, value in record.values.items()
        if baseline is None or (value or None) != (baseline.get(name) or None)
    ]
    words = " ".join(word for word in changed if word) or "as the baseline"
    match record.kind:
        case "search":
            return words
        case "baseline":
            return "baseline"
        case kind:
            return f"{kind}: {words}"


def why(record: TrialRecord, most: int = WHY) -> str:
    """The reason of an outcome in at most ``most`` characters; the record holds all of it."""
    reason = " ".join(record.outcome_reason.split())
    reason = PREFIX.sub(
        lambda found: (
            ("" if found[1] == str(record.outcome) else f"{found[1]}, ") + f"rank {found[2]}: "
        ),
        reason,
    )
    if len(reason) <= most:
        return reason
    return reason[: most - 1].rsplit(" ", 1)[0] + " …"


def objective_of(record: TrialRecord) -> Interval | None:
    """A trial's deciding figure; none for a failed one, whatever it printed before it died."""
    if record.outcome is not Outcome.OK or record.measurement is None:
        return None
    return record.measurement.objective


def cell(record: TrialRecord) -> str:
    """A trial's deciding figure for a table; in brackets what decides nothing by itself."""
    objective = objective_of(record)
    if objective is not None:
        return number(objective.value)
    measured = record.measurement
    if record.fidelity == "check" and record.outcome is Outcome.OK:
        return "(fits)"
    if record.fidelity == "proxy" and record.outcome is Outcome.OK and measured is not None:
        return f"({number(measured.step_time_s.value)} s/step by proxy)"
    if record.outcome is not Outcome.OK or measured is None or measured.sample_time_s is None:
        return ""
    if measured.true_tokens_per_s is not None:
        return f"({number(measured.true_tokens_per_s)} tokens/s)"
    if measured.tokens_per_s is not None:
        return f"({number(measured.tokens_per_s.value)} tokens/s)"
    return f"({number(1.0 / measured.sample_time_s.value)} samples/s)"


def seeds(reached: int, runs: int) -> str:
    """How a time to train was scored."""
    if runs == 1:
        return "one seed only"
    dropped = " without the fastest and the slowest" if runs >= RUNS_TO_DROP_FROM else ""
    return f"{reached} of {runs} seeds reached the target, mean{dropped}"
