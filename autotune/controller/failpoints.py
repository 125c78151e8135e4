"""Places at which a test may end this process, named in ``AUTOTUNE_FAILPOINT``.

``after_spawn`` kills this very process there with SIGKILL, ``after_spawn:stop`` stops it with
SIGSTOP; ``after_spawn@3`` does so at the third visit. Unset, each costs one look-up.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

NAMES = (
    "after_choosing",
    "after_intent",
    "after_spawn",
    "after_handle",
    "after_judging",
    "after_result_file",
    "after_tell",
)
_visits: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """End or stop this process here when the environment says so."""
    wanted = os.environ.get("AUTOTUNE_FAILPOINT")
    if not wanted:
        return
    place, _, how = wanted.partition(":")
    place, _, visit = place.partition("@")
    if place != name:
        return
    _visits[name] += 1
    if _visits[name] == int(visit or 1):
        os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)
