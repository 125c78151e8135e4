"""Cuts a line's figures out at places that are known, which is what most lines cost."""

from __future__ import annotations

from collections.abc import Callable, Collection
from operator import itemgetter
from typing import Any, NamedTuple

from autotune.logs.numbers import read_number


class Place(NamedTuple):
    """A figure's field, its unit's factor, and where in the line its number stands."""

    field: str
    factor: float
    begin: int
    end: int


class Cut:
    """Where the figures of all lines of one shape stand; made from one such line.

    Whether a number is written as `float` reads it is the same for all of them.
    """

    def __init__(self, places: Collection[Place], line: str) -> None:
        plain = [one for one in places if _is_plain(line[one.begin : one.end])]
        self._odd = [one for one in places if one not in plain]
        self._fields = [one.field for one in plain]
        self._scaled = [(one.field, one.factor) for one in plain if one.factor != 1.0]
        slices = [slice(one.begin, one.end) for one in plain]
        self._texts: Callable[[str], Any] = itemgetter(*slices) if slices else _nothing
        self._only = len(slices) == 1

    def figures(self, line: str) -> dict[str, float]:
        """The line's figures in the units of `StepSample`."""
        texts = self._texts(line)
        found = dict(zip(self._fields, map(float, (texts,) if self._only else texts), strict=False))
        for field, factor in self._scaled:
            found[field] *= factor
        for one in self._odd:
            value = read_number(line[one.begin : one.end])
            if value is not None:
                found[one.field] = value * one.factor
        return found


def _is_plain(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _nothing(_line: str) -> tuple[str, ...]:
    return ()
