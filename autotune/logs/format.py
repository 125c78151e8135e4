"""What a framework's log lines look like, as a table: patterns whose groups name figures.

A group is a figure of StepSample with its unit in its name (``step_time_ms``,
``memory_mib``); any other name lands in ``StepSample.extra``. Adding a framework's log is
adding a table, no code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from autotune.logs.numbers import NUMBER

UNITS: dict[str, tuple[str, float]] = {
    "step": ("step", 1.0),
    "seconds": ("seconds", 1.0),
    "step_time_s": ("seconds", 1.0),
    "step_time_ms": ("seconds", 1e-3),
    "step_time_us": ("seconds", 1e-6),
    "samples_per_s": ("samples_per_s", 1.0),
    "samples_per_ms": ("samples_per_s", 1e3),
    "tokens": ("tokens", 1.0),
    "tokens_per_s": ("tokens_per_s", 1.0),
    "tokens_per_s_per_gpu": ("tokens_per_s_per_gpu", 1.0),
    "loss": ("loss", 1.0),
    "memory_gib": ("memory_gib", 1.0),
    "memory_gb": ("memory_gib", 1.0),
    "memory_mib": ("memory_gib", 2.0**-10),
    "memory_mb": ("memory_gib", 2.0**-10),
    "memory_bytes": ("memory_gib", 2.0**-30),
    "tflops_per_gpu": ("tflops_per_gpu", 1.0),
    "mfu": ("mfu", 1.0),
    "mfu_percent": ("mfu", 1e-2),
}
"""Group name -> StepSample field and factor. ``steps_per_s`` is read as its inverse besides.

GB and MB in logs are what torch and the frameworks print: powers of two under decimal names.
"""

_NUMBER_MARK = "{num}"


@dataclass(frozen=True)
class LinePattern:
    """One kind of line: ``needle`` is a literal that it contains, ``regex`` names its figures.

    ``{num}`` in the regex stands for one number. ``opens`` says that the line is one step's
    own line; other lines add to the step before them. ``held_only`` patterns are looked up
    on an opening line and on the lines that continue it, never alone.
    """

    needle: str
    regex: str
    opens: bool = False
    held_only: bool = False
    compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compiled", re.compile(self.regex.replace(_NUMBER_MARK, NUMBER)))


@dataclass(frozen=True)
class LogFormat:
    """How one program's log is read.

    An opening line that does not match ``complete`` is held open: lines that match
    ``continues`` belong to it, at most ``max_lines`` of them. ``precedence`` orders formats in
    a log that mixes them (a smaller number is believed first). ``bare_rank`` allows srun's
    ``12: `` in front of lines. ``by_user`` patterns see the line as it stands, prefix and all.
    A ``fallback`` is asked only until another format's lines were seen.
    ``lock`` names a figure whose first value in a stream sets the others apart (the total of
    the training's bar: a bar with another total is another job's).
    A format with ``members`` reads by all of them, each line by the first that knows it.
    """

    name: str
    patterns: tuple[LinePattern, ...]
    precedence: int = 50
    complete: str | None = None
    continues: str | None = None
    max_lines: int = 6
    bare_rank: bool = True
    by_user: bool = False
    fallback: bool = False
    lock: str | None = None
    members: tuple[LogFormat, ...] = ()

    @property
    def needles(self) -> tuple[str, ...]:
        """Literals of which at least one stands in every line that this format reads."""
        return tuple(dict.fromkeys(p.needle for p in self.patterns if not p.held_only))


def opening(needle: str, regex: str) -> LinePattern:
    """A line that stands for one step."""
    return LinePattern(needle, regex, opens=True)


def inside(needle: str, regex: str) -> LinePattern:
    """A figure of an opening line, or of the lines that continue it."""
    return LinePattern(needle, regex, held_only=True)


def beside(needle: str, regex: str) -> LinePattern:
    """A line of its own that tells more about the step before it."""
    return LinePattern(needle, regex)


def table(*groups: Iterable[LinePattern] | LinePattern) -> tuple[LinePattern, ...]:
    """Patterns and groups of patterns as one table."""
    flat: list[LinePattern] = []
    for group in groups:
        flat.extend([group] if isinstance(group, LinePattern) else group)
    return tuple(flat)
