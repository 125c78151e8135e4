"""Every error a user can meet, and the exit code it ends the command with.

    AutotuneError              1
    |-- BadInput               2   what the user wrote cannot be run; nothing was started
    |-- InfrastructureError    3   a database, a disk, a scheduler or a node failed us
    |   |-- EngineLost             what runs all gangs is gone: no trial is to blame
    |   `-- PlaceSpent             nothing more starts here: no trial is to blame
    `-- StudyHeld             75   another controller holds the study (EX_TEMPFAIL)

A message says what happened, where (file, line, key) and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AutotuneError(Exception):
    """Base of all errors that are shown as one clear message, without a traceback."""

    exit_code = 1


class BadInput(AutotuneError):
    """Something the user wrote cannot be used: exit 2, nothing was started."""

    exit_code = 2

    @classmethod
    def unknown(cls, kind: str, name: str, known: Iterable[str], where: str = "") -> BadInput:
        """An unknown name; the message lists the known ones and the closest of them."""
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        listed = ", ".join(names) if names else "none"
        prefix = f"{where}: " if where else ""
        return cls(f"{prefix}unknown {kind} {name!r}.{hint} Known: {listed}.")


class InfrastructureError(AutotuneError):
    """What we stand on failed (storage, disk, scheduler, node): exit 3, `resume` goes on."""

    exit_code = 3


class EngineLost(InfrastructureError):
    """The engine that runs every gang does not answer: the controller stops, nothing is told."""


class PlaceSpent(InfrastructureError):
    """No further gang can start as things are: what runs ends first, then the controller stops."""


class StudyHeld(AutotuneError):
    """Another controller holds the study's lease: exit 75."""

    exit_code = 75
