"""Says once, of each trial, that it waits or still prepares: the screen may be a log file."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.controller.events import Listener
from autotune.controller.watch import Watch


class Waiting:
    """Who was said to wait, and who to prepare."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._waits: set[int] = set()
        self._prepares: set[int] = set()

    def tell(self, running: Sequence[Watch]) -> None:
        """Tell of those that were not told of before."""
        for watch in running:
            number = watch.record.number
            if watch.waits_long() and number not in self._waits:
                self._waits.add(number)
                self.listener.message(f"trial {number} {watch.status.detail}")
            if watch.preparation.what and number not in self._prepares:
                self._prepares.add(number)
                self.listener.message(f"trial {number} prepares: {watch.preparation.what}")
