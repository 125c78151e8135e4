"""Figures found in lines become StepSamples; what contradicts itself is put right and noted."""

from __future__ import annotations

import math
from collections.abc import Mapping

from autotune.logs.format import UNITS
from autotune.logs.numbers import read_number
from autotune.trial import StepSample

RATE_TOLERANCE = 0.05
_PER_MILLISECOND = 1e3


def to_figures(groups: Mapping[str, str | None]) -> dict[str, float]:
    """Named groups of a match as StepSample fields in their units, the others as they are."""
    figures: dict[str, float] = {}
    for name, text in groups.items():
        if text is None:
            continue
        value = read_number(text)
        if value is None:
            continue
        if name == "steps_per_s":
            if value > 0.0:
                figures.setdefault("seconds", 1.0 / value)
            continue
        field, factor = UNITS.get(name, (name, 1.0))
        figures[field] = value * factor
    return figures


_FIELDS = frozenset(field for field, _ in UNITS.values()) - {"step"}


def to_sample(
    figures: dict[str, float], rank: int, arrival_s: float
) -> tuple[StepSample, str | None]:
    """A sample of one step's figures, and a note where they contradict each other.

    The step time is believed; a samples/s that is off by exactly the unit (per millisecond) is
    put right. A negative MFU or step time is a placeholder, as nanoGPT prints it, and is left
    out.
    """
    note = _check_rate(figures)
    step = figures.get("step")
    known = {
        name: value
        for name, value in figures.items()
        if name in _FIELDS and not (name in ("mfu", "seconds") and not value >= 0.0)
    }
    extra = {n: v for n, v in figures.items() if n not in _FIELDS and n != "step"}
    skipped = extra.pop("skipped_iterations", 0.0) > 0.0 and "loss" not in known
    sample = StepSample(
        step=int(step) if step is not None and math.isfinite(step) else None,
        rank=rank,
        arrival_s=arrival_s,
        skipped=skipped,
        extra=extra,
        **known,
    )
    return sample, note


def _check_rate(figures: dict[str, float]) -> str | None:
    seconds = figures.get("seconds", 0.0)
    batch = figures.get("global_batch_size", 0.0)
    printed = figures.get("samples_per_s", 0.0)
    if not (seconds > 0.0 and batch > 0.0 and printed > 0.0):
        return None
    true = batch / seconds
    if abs(printed * _PER_MILLISECOND / true - 1.0) < RATE_TOLERANCE:
        figures["samples_per_s"] = printed * _PER_MILLISECOND
        return f"the log's samples per second ({printed:g}) are per millisecond; put right"
    if abs(printed / true - 1.0) > RATE_TOLERANCE:
        return (
            f"the log claims {printed:g} samples/s, step time and batch give {true:.4g}; "
            "the step time is believed"
        )
    return None
