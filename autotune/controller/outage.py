"""The storage may be away for a while: work that needs it is put off, and trials go on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from autotune.study.storage import StorageAway

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0


class Outage:
    """Does what needs the storage, or puts it off with jitter while the storage is away."""

    def __init__(self, say: Callable[[str], None], returned: Callable[[], None]) -> None:
        self._say = say
        self._returned = returned
        self._retry_at = 0.0
        self._failures = 0

    @property
    def lasts(self) -> bool:
        """Whether the storage was away when it was last asked."""
        return self._failures > 0

    def do(self, work: Callable[[], None]) -> None:
        """Do it now, after ``returned`` where an outage ends with it; nothing while one lasts."""
        if time.monotonic() < self._retry_at:
            return
        try:
            if self._failures:
                self._returned()
            work()
        except StorageAway as error:
            self._failures += 1
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self._failures, 6))
            self._retry_at = time.monotonic() + wait_s * random.uniform(0.5, 1.0)
            if self._failures == 1:
                self._say(f"{error}; trials go on, results wait on disk")
            return
        if self._failures:
            self._say("the storage answers again")
        self._failures = 0
        self._retry_at = 0.0
