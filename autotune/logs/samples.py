"""Figures found in lines become StepSamples; what contradicts itself is put right and noted."""

from __future__ import annotations

import math
from typing import Any

from autotune.logs.format import UNITS
from autotune.trial import StepSample

RATE_TOLERANCE = 0.05
_PER_MILLISECOND = 1e3
_SILENT: dict[str, Any] = dict(StepSample().__dict__)
"""A sample that tells nothing. Its copies become samples whole: the constructor of a frozen
dataclass sets field by field, which took a third of the time of reading a log."""

_FIELDS = frozenset(field for field, _ in UNITS.values()) - {"step"}


def to_sample(
    figures: dict[str, float], rank: int, arrival_s: float
) -> tuple[StepSample, str | None]:
    """A sample of one step's figures, and a note where they contradict each other.

    The step time is believed; a samples/s that is off by exactly the unit (per millisecond) is
    put right. ``steps_per_s`` stands in for a missing step time. A negative MFU or step time
    is a placeholder, as nanoGPT prints it, and is left out.
    """
    note = _check_rate(figures) if "samples_per_s" in figures else None
    rate = figures.pop("steps_per_s", 0.0)
    if rate > 0.0:
        figures.setdefault("seconds", 1.0 / rate)
    told = _SILENT.copy()
    extra: dict[str, float] = {}
    for name, value in figures.items():
        if name not in _FIELDS:
            extra[name] = value
        elif value >= 0.0 or name not in ("mfu", "seconds"):
            told[name] = value
    step = extra.pop("step", math.nan)
    told["step"] = int(step) if math.isfinite(step) else None
    told["skipped"] = extra.pop("skipped_iterations", 0.0) > 0.0 and told["loss"] is None
    told["rank"], told["arrival_s"], told["extra"] = rank, arrival_s, extra
    sample = object.__new__(StepSample)
    object.__setattr__(sample, "__dict__", told)
    return sample, note


def _check_rate(figures: dict[str, float]) -> str | None:
    seconds = figures.get("seconds", 0.0)
    batch = figures.get("global_batch_size", 0.0)
    printed = figures["samples_per_s"]
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
