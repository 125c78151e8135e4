"""Figures found in lines become StepSamples; what contradicts itself is put right and noted."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import repeat
from typing import Any

from autotune.logs.cut import Cut, Place
from autotune.logs.format import UNITS
from autotune.trial import StepSample

RATE_TOLERANCE = 0.05
_PER_MILLISECOND = 1e3
_SILENT: dict[str, Any] = dict(StepSample().__dict__)
"""A sample that tells nothing. Its copies become samples whole: the constructor of a frozen
dataclass sets field by field, which took a third of the time of reading a log."""

_FIELDS = frozenset(field for field, _ in UNITS.values()) - {"step"}
_NEVER_NEGATIVE = ("mfu", "seconds")
_SKIPPED = "skipped_iterations"


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
        elif value >= 0.0 or name not in _NEVER_NEGATIVE:
            told[name] = value
    step = extra.pop("step", math.nan)
    told["step"] = int(step) if math.isfinite(step) else None
    told["skipped"] = extra.pop(_SKIPPED, 0.0) > 0.0 and told["loss"] is None
    told["rank"], told["arrival_s"], told["extra"] = rank, arrival_s, extra
    return _made_of(told), note


class Stencil:
    """Makes the samples of all lines of one shape, where nothing is to be put right in them."""

    def __init__(self, places: Collection[Place], line: str) -> None:
        self.told = [one for one in places if one.field in _FIELDS or one.field == "step"]
        self.extra = [one for one in places if one not in self.told and one.field != _SKIPPED]
        self._cut = Cut([*self.told, *self.extra], line)
        self._told = self._cut.fields[: len(self.told)]
        self._extra = self._cut.fields[len(self.told) :]

    def sample(self, line: str, rank: int, arrival_s: float) -> StepSample:
        """What `to_sample` gives for the line's figures."""
        values = self._cut.values(line)
        told = _SILENT.copy()
        told.update(zip(self._told, values, strict=False))
        told["step"] = int(told["step"])
        told["rank"], told["arrival_s"] = rank, arrival_s
        told["extra"] = dict(zip(self._extra, values[len(self._told) :], strict=True))
        return _made_of(told)


def stencil_for(places: Collection[Place], line: str) -> Stencil | None:
    """The stencil for lines of this one's shape; None where `to_sample` has to look at each.

    The shape tells which figures there are, which are negative or not finite: all but their
    digits.
    """
    figures = Cut(places, line).figures(line)
    looked_at = {"steps_per_s", "samples_per_s"} | ({_SKIPPED} if "loss" not in figures else set())
    if len(figures) < len(places) or looked_at & set(figures):
        return None
    if not math.isfinite(figures.get("step", math.nan)):
        return None
    if not all(figures.get(name, 0.0) >= 0.0 for name in _NEVER_NEGATIVE):
        return None
    return Stencil(places, line)


def samples_of(
    told: dict[str, list[Any]], extra: dict[str, list[float]], count: int
) -> list[StepSample]:
    """``count`` samples of what columns of figures tell, none of which is to be put right."""
    told["step"] = list(map(int, told["step"]))
    further = zip(*extra.values(), strict=True) if extra else repeat((), count)
    made = []
    for row, extra_row in zip(zip(*told.values(), strict=True), further, strict=True):
        one = _SILENT.copy()
        one.update(zip(told, row))  # noqa: B905 - told by their columns, and called often
        one["extra"] = dict(zip(extra, extra_row)) if extra else {}  # noqa: B905
        made.append(_made_of(one))
    return made


def _made_of(told: dict[str, Any]) -> StepSample:
    sample = object.__new__(StepSample)
    object.__setattr__(sample, "__dict__", told)
    return sample


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
