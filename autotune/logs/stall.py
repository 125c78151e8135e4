"""Sees a silent hang in a log file: heartbeats go on for long while no step is told.

Only for files read afterwards, by the wall-clock stamps in their lines; a live run is watched
by the controller's own no-progress timer.
"""

from __future__ import annotations

import re
from datetime import datetime

FLOOR_S = 1800.0
STEPS = 20.0
MAX_SHAPES = 256

_STAMP = re.compile(r"\b(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)")
_COUNTER = re.compile(r"\b\d+ ?(?:/|of) ?\d+\b")
_DIGITS = re.compile(r"\d+")


class StallWatch:
    """Feed it every line and whether it told a step; `silent_s` is the heartbeat's length."""

    def __init__(self) -> None:
        self._first_seen: dict[str, datetime] = {}
        self.silent_s = 0.0

    def feed(self, line: str, told_step: bool) -> None:
        """A step, or a counter that moves on, ends the silence. Never raises."""
        if told_step:
            self._first_seen.clear()
            self.silent_s = 0.0
            return
        stamp = _STAMP.search(line)
        if stamp is None:
            return
        rest = line[stamp.end() :]
        if _COUNTER.search(rest):
            self._first_seen.clear()
            self.silent_s = 0.0
            return
        try:
            moment = datetime.fromisoformat(stamp.group(1).replace("T", " "))
        except ValueError:
            return
        shape = _DIGITS.sub("0", rest)[:200]
        if len(self._first_seen) < MAX_SHAPES:
            since = self._first_seen.setdefault(shape, moment)
            self.silent_s = max(self.silent_s, (moment - since).total_seconds())

    def stalled(self, step_time_s: float | None) -> bool:
        """Whether heartbeats went on for half an hour and twenty steps without a step."""
        return self.silent_s >= max(FLOOR_S, STEPS * (step_time_s or 0.0))
