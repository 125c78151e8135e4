"""When a gang must have ended: its limit, not counting what it prepares before it can train.

One of the files that run on nodes beside ``supervisor.py``: see ``host.py``. A rank that compiles
or fetches something for long keeps a note ``preparing.RANK`` in the trial's folder meanwhile.
"""

from __future__ import annotations

LONGEST_PREPARATION_S = 3600.0
"""What is prepared for longer is stuck, as a build is on the lock that another one left."""


class Deadline:
    """Ends ``limit_s`` seconds after ``started_s``, later by the time that notes were there."""

    def __init__(self, started_s: float, limit_s: float) -> None:
        self.ends_s = started_s + limit_s
        self.prepared_s = 0.0
        self.preparing_since: float | None = None

    def look(self, names: list[str], now: float) -> None:
        """Take in the names of the files in the trial's folder."""
        if self.preparing_since is not None:
            self.prepared_s += now - self.preparing_since
        there = any(name.startswith("preparing.") for name in names)
        self.preparing_since = now if there else None

    def passed(self, now: float) -> bool:
        """Whether the time is over."""
        return now >= self.ends_s + min(self.prepared_s, LONGEST_PREPARATION_S)
