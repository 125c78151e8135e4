"""What a controller tells whoever watches: a terminal, a log, a test, nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from autotune.trial import TrialRecord


@dataclass(frozen=True)
class Progress:
    """How far one running trial is; times in seconds of the real clock."""

    number: int
    phase: str
    step: int | None = None
    total_steps: int | None = None
    step_time_s: float | None = None
    elapsed_s: float = 0.0
    time_limit_s: float = 0.0


class Listener(Protocol):
    """Hears of everything in the order it happens; must return quickly and never raise."""

    def started(self, record: TrialRecord) -> None:
        """A trial was launched."""

    def progress(self, running: list[Progress]) -> None:
        """The trials running now; a few times a second."""

    def finished(self, record: TrialRecord) -> None:
        """A trial was told."""

    def message(self, text: str) -> None:
        """Something a person should know: a retry, a node set aside, a storage that is away."""


class Silent:
    """Hears and says nothing."""

    def started(self, record: TrialRecord) -> None:
        """Nothing."""

    def progress(self, running: list[Progress]) -> None:
        """Nothing."""

    def finished(self, record: TrialRecord) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""
