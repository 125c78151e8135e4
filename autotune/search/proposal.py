"""The door of the search: what a proposer is asked, what it answers, why it left out the rest.

    history, pending --propose--> Proposal | None
    history --finished--> why the study may stop by itself
    history --skipped--> why each config was never run

A proposer is a pure function of its seed and what it is told: the same history, told in the
same order, yields the same next config, so a resumed study goes on as if never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from autotune.config import Config, ParameterValue
from autotune.trial import Prediction, TrialRecord


class LegalRows(Protocol):
    """What the search needs of a legal set; `autotune.space` builds the real one.

    ``codes`` is int16 of shape (rows, parameters): the index of each value in
    ``choices[name]``, -1 where a conditional parameter does not exist.
    """

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def choices(self) -> Mapping[str, Sequence[ParameterValue]]: ...
    @property
    def codes(self) -> NDArray[np.int16]: ...
    def __len__(self) -> int: ...
    def column(self, name: str) -> NDArray[Any]: ...
    def config(self, index: int) -> Config: ...
    def find(self, values: Mapping[str, ParameterValue]) -> int | None: ...


@dataclass(frozen=True)
class Proposal:
    """The next config: its row in the legal set, why this one, what is expected of it.

    An ``audit`` runs a config that a failing rule speaks against, to test the rule.
    """

    index: int
    reason: str
    prediction: Prediction = field(default_factory=Prediction)
    audit: bool = False


SkipReason = Literal[
    "invalid", "predicted not to fit", "dominated", "not promising", "not reached", "twin"
]


@dataclass(frozen=True)
class Skipped:
    """One legal config that was never run, and why.

    ``witness`` is the number of the trial whose failure rules it out, where one does;
    ``margin_gib`` how far predicted memory lies beyond the device's, where that is why;
    ``at_most`` the largest share of the best throughput that it could plausibly reach.
    """

    index: int
    kind: SkipReason
    reason: str
    witness: int | None = None
    margin_gib: float | None = None
    at_most: float | None = None


class Proposer(Protocol):
    """Chooses configs out of one legal set; never an illegal one, never one twice."""

    def propose(self, history: Sequence[TrialRecord], pending: Sequence[int]) -> Proposal | None:
        """The next config to run, None when every legal config was run or is running.

        ``history`` holds all trials told so far in order of their number; ``pending`` the rows
        of trials that run now and are not in ``history``.
        """

    def finished(self, history: Sequence[TrialRecord]) -> str | None:
        """Why no further trial is worth its time, None while one is."""

    def skipped(self, history: Sequence[TrialRecord]) -> Iterator[Skipped]:
        """Every legal config that was never run, with the reason, cheapest reason first."""
