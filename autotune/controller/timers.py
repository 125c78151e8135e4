"""Tells a hang from a slow start: no progress for longer than the run itself made plausible.

Before the second step there is a grace for start-up and compilation; afterwards the limit is
a multiple of the median gap between steps, never below a floor (a checkpoint, a data stall), nor
below twice the longest gap: a step that met a new shape was compiled again for over a minute.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

MEDIAN_GAPS = 10.0
LONGEST_GAPS = 2.0


@dataclass
class HangTimer:
    """Progress of one gang on the monotonic clock (seconds)."""

    startup_grace_s: float
    floor_s: float
    _last: float | None = None
    _steps: int = 0
    _gaps: deque[float] = field(default_factory=lambda: deque(maxlen=200))

    def start(self, now: float) -> None:
        """The gang runs since ``now``."""
        self._last = now

    def progressed(self, arrival_s: float) -> None:
        """A measured step arrived."""
        if self._steps and self._last is not None and arrival_s > self._last:
            self._gaps.append(arrival_s - self._last)
        self._last = max(arrival_s, self._last or arrival_s)
        self._steps += 1

    @property
    def limit_s(self) -> float:
        """How long without progress is a hang now."""
        if len(self._gaps) < 2:
            return max(self.startup_grace_s, self.floor_s)
        usual, longest = statistics.median(self._gaps), max(self._gaps)
        return max(MEDIAN_GAPS * usual, LONGEST_GAPS * longest, self.floor_s)

    def expired(self, now: float) -> bool:
        """Whether the gang has made no progress for longer than the limit."""
        return self._last is not None and now - self._last > self.limit_s

    def reason(self) -> str:
        """The sentence for the record."""
        if not self._steps:
            return f"no step within {self.limit_s:.0f} s of the start"
        return f"no progress for {self.limit_s:.0f} s after {self._steps} steps"
