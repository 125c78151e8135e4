"""What failure looks like in a log: one row a message, matched on the lower-cased line.

Rows are tried in order and the first that fits names the line's kind, so rows that look alike
but mean something else (host memory, shared memory, hints, warnings) stand before the general
ones. Kinds are listed from the most to the least telling: the most telling one that the run
did not survive is what it died of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from autotune.trial import Outcome

KINDS: dict[str, Outcome] = {
    "oom_gpu": Outcome.OOM_GPU,
    "gpu_hw": Outcome.INFRA,
    "oom_host": Outcome.OOM_HOST,
    "disk_full": Outcome.INFRA,
    "port": Outcome.INFRA,
    "node_fail": Outcome.INFRA,
    "shm": Outcome.CRASH,
    "missing": Outcome.USER_ERROR,
    "config": Outcome.INVALID_CONFIG,
    "nan": Outcome.NAN_LOSS,
    "time_limit": Outcome.TIMEOUT,
    "preempted": Outcome.INFRA,
    "hang": Outcome.HANG,
    "nccl": Outcome.INFRA,
    "sigterm": Outcome.INFRA,
    "cancelled": Outcome.INFRA,
    "crash": Outcome.CRASH,
    "died": Outcome.CRASH,
    "stopped": Outcome.CRASH,
    "killed": Outcome.CRASH,
}
"""Kind -> outcome, the most telling first."""

CHAIN = ("hang", "nccl", "sigterm", "cancelled", "crash")
"""Kinds that bring each other about, on other ranks: the one that came first is the cause."""

AFTERMATH = frozenset({*CHAIN, "time_limit", "preempted", "died", "stopped", "killed"})
"""Kinds that our own ending of a run, or another rank's death, brings about as well."""

HOLDS_OTHERS = frozenset({"oom_gpu", "gpu_hw"})
"""Kinds that one rank dies of while the others wait for it in a collective."""

DOUBTFUL = frozenset({"missing", "config", "crash", "port", "shm", "gpu_hw", "nccl", "hang"})
"""Kinds that a line of level INFO or WARNING does not prove."""

_QUANTIFIER = re.compile(r"\{\d*,?\d*\}")


@dataclass(frozen=True)
class Row:
    """A message: ``needle`` is literal, ``regex`` refines it; kind None means harmless."""

    kind: str | None
    needle: str
    regex: str = ""
    compiled: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    digit_blind: bool = field(init=False, repr=False, compare=False)
    """Whether the regex cares for no digit in particular: then lines of one shape are alike."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "compiled", re.compile(self.regex) if self.regex else None)
        literal = _QUANTIFIER.sub("", self.regex)
        object.__setattr__(self, "digit_blind", not any(map(str.isdigit, literal)))

    def fits(self, lowered: str) -> bool:
        """Whether the lower-cased line is this message."""
        if self.needle not in lowered:
            return False
        return self.compiled is None or self.compiled.search(lowered) is not None
