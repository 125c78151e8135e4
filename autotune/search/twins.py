"""Measures one of each config's twins: parameters that cannot change a speed are not varied.

A time to train is searched by throughput first, which learning rate and its kin leave as it is. So
the proposer sees one row of each group of twins, that with the baseline's values where it is
legal; the runs to the target try the other ways of learning (`time_to_train.qualifiers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.config import Config, ParameterValue
from autotune.search.proposal import LegalRows, Proposal, Proposer, Skipped
from autotune.search.time_to_train import SILENT
from autotune.trial import Prediction, TrialRecord


class OfTwins:
    """The rows of a legal set that speak for all of it: one of each group of twins."""

    def __init__(self, legal: LegalRows, baseline: int) -> None:
        self._legal = legal
        self.silent = [name for name in legal.names if name in SILENT]
        quiet = np.array([name in SILENT for name in legal.names], dtype=bool)
        apart = (legal.codes[:, quiet] != legal.codes[baseline, quiet]).sum(axis=1)
        order = np.argsort(apart, kind="stable")
        _, first, group = np.unique(
            legal.codes[order][:, ~quiet], axis=0, return_index=True, return_inverse=True
        )
        self.rows: NDArray[np.int64] = order[first]
        self.of = np.empty(len(order), dtype=np.int64)
        self.of[order] = group.reshape(-1)
        """For each row of the legal set, the place of the one that speaks for it."""

    @property
    def names(self) -> Sequence[str]:
        """The parameters, silent ones included."""
        return self._legal.names

    @property
    def choices(self) -> Mapping[str, Sequence[ParameterValue]]:
        """All choices, those that no row here takes included."""
        return self._legal.choices

    @property
    def codes(self) -> NDArray[np.int16]:
        """See `LegalRows`."""
        return self._legal.codes[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> NDArray[Any]:
        """One value for each row here."""
        return self._legal.column(name)[self.rows]

    def config(self, index: int) -> Config:
        """The config at a place here."""
        return self._legal.config(int(self.rows[index]))

    def find(self, values: Mapping[str, ParameterValue]) -> int | None:
        """The place of the row that speaks for a config; None when it is not legal."""
        row = self._legal.find(values)
        return None if row is None else int(self.of[row])


class TwinProposer:
    """Another proposer over one row of each group of twins; it speaks in rows of the legal set."""

    def __init__(
        self, legal: LegalRows, baseline: int, make: Callable[[LegalRows], Proposer]
    ) -> None:
        self._legal = legal
        self._twins = OfTwins(legal, baseline)
        self._inner = make(self._twins)

    def propose(self, history: Sequence[TrialRecord], pending: Sequence[int]) -> Proposal | None:
        """See `Proposer`."""
        found = self._inner.propose(history, [int(self._twins.of[row]) for row in pending])
        if found is None:
            return None
        return replace(found, index=int(self._twins.rows[found.index]))

    def predict(self, index: int) -> Prediction:
        """What is expected of a row of the legal set, by a proposer that expects anything."""
        inner = getattr(self._inner, "predict", None)
        found: Prediction = inner(int(self._twins.of[index])) if inner else Prediction()
        return found

    def finished(self, history: Sequence[TrialRecord]) -> str | None:
        """See `Proposer`."""
        places = {self._twins.find(record.values) for record in history}
        if len(places - {None}) == len(self._twins):
            silent = ", ".join(self._twins.silent)
            return f"every config was measured, but for those that differ in {silent} alone"
        return self._inner.finished(history)

    def skipped(self, history: Sequence[TrialRecord]) -> Iterator[Skipped]:
        """See `Proposer`: a twin was left out as the row that speaks for it, or for its sake."""
        left_out = {item.index: item for item in self._inner.skipped(history)}
        run = {self._legal.find(record.values) for record in history}
        for row in range(len(self._legal)):
            place = int(self._twins.of[row])
            if row in run:
                continue
            if place in left_out:
                yield replace(left_out[place], index=row)
            else:
                silent = ", ".join(self._twins.silent)
                yield Skipped(row, "twin", f"a step takes as long whatever {silent} is")


def without_twins(
    legal: LegalRows, baseline: int, make: Callable[[LegalRows], Proposer]
) -> Proposer:
    """``make``'s proposer over rows that may differ in speed; over all where none is silent."""
    if not set(SILENT) & set(legal.names):
        return make(legal)
    return TwinProposer(legal, baseline, make)
