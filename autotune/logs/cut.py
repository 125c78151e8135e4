"""Cuts a line's figures out at places that are known, which is what most lines cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

    How a number is written, and whether it is one, is the same for all of them.
    """

    def __init__(self, places: Iterable[Place], line: str) -> None:
        read = [(one, reader_of(line[one.begin : one.end])) for one in places]
        known = [(one, reader) for one, reader in read if reader is not None]
        self.fields = tuple(one.field for one, _ in known)
        self._readers = tuple(reader for _, reader in known)
        self._plain = all(reader is float for reader in self._readers)
        self._scaled = [(at, one.factor) for at, (one, _) in enumerate(known) if one.factor != 1.0]
        slices = [slice(one.begin, one.end) for one, _ in known]
        self._texts: Callable[[str], Any] = itemgetter(*slices) if slices else _nothing
        self._only = len(slices) == 1

    def values(self, line: str) -> list[float]:
        """The line's figures in the units of `StepSample`, in the order of `fields`."""
        texts = self._texts(line)
        if self._only:
            texts = (texts,)
        if self._plain:
            values = list(map(float, texts))
        else:
            values = [read(text) for read, text in zip(self._readers, texts, strict=True)]
        for at, factor in self._scaled:
            values[at] *= factor
        return values

    def figures(self, line: str) -> dict[str, float]:
        """The line's figures by field."""
        return dict(zip(self.fields, self.values(line), strict=True))


def reader_of(text: str) -> Callable[[str], float] | None:
    """What reads numbers that are written like this one; None where it is no number."""
    for reader in (float, _separated, _suffixed):
        try:
            reader(text)
        except ValueError:
            continue
        return reader
    return None


def _separated(text: str) -> float:
    return float(text.replace(",", ""))


def _suffixed(text: str) -> float:
    value = read_number(text)
    if value is None:
        raise ValueError(text)
    return value


def _nothing(_line: str) -> tuple[str, ...]:
    return ()
