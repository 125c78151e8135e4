"""Reads all lines of one shape in a block at once: each figure stands in the same columns.

Lines of one shape are equally long, so a block's lines are the rows of a matrix of characters.
Its digits times their weights are the figures of all lines, exactly as `float` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from autotune.logs.cut import Place, reader_of
from autotune.logs.samples import Stencil, samples_of
from autotune.trial import StepSample

_EXACT_DIGITS = 15
_DIGITS = re.compile(r"[-+]?[\d,]*\.?\d*")
_STAMP, _RANK = "arrival_s", "rank"


class Sheet:
    """How lines of one shape, in ASCII and with the supervisor's stamp, are read."""

    def __init__(self, stencil: Stencil, rank: tuple[int, int] | None, line: str) -> None:
        start = line.index("\t") + 1
        own = [Place(_STAMP, 1.0, 0, start - 1)]
        own += [Place(_RANK, 1.0, start + rank[0], start + rank[1])] if rank else []
        self._told = (*(place.field for place in own), *(one.field for one in stencil.told))
        self._extra = tuple(one.field for one in stencil.extra)
        moved = [
            one._replace(begin=start + one.begin, end=start + one.end)
            for one in (*stencil.told, *stencil.extra)
        ]
        self._columns = _Columns([*own, *moved], line)

    def samples(self, lines: Sequence[bytes], stream: int, offset_s: float) -> list[StepSample]:
        """What the stencil gives for each line; ``offset_s`` moves a stamp."""
        values = self._columns.values(lines)
        told = dict(zip(self._told, values, strict=False))
        extra = dict(zip(self._extra, values[len(self._told) :], strict=True))
        told[_STAMP] = [stamp_s + offset_s for stamp_s in told[_STAMP]]
        told[_RANK] = [int(rank) for rank in told.get(_RANK, repeat(stream, len(lines)))]
        return samples_of(told, extra, len(lines))


class _Columns:
    """Figures of lines of one shape, a list for each place."""

    def __init__(self, places: Sequence[Place], line: str) -> None:
        self._factors = [one.factor for one in places]
        self._divisors = np.ones(len(places))
        self._others: list[tuple[int, slice, Callable[[str], float]]] = []
        weights: list[tuple[int, int, float]] = []
        for number, one in enumerate(places):
            text = line[one.begin : one.end]
            digits = [at for at in range(one.begin, one.end) if line[at].isdigit()]
            if len(digits) > _EXACT_DIGITS or _DIGITS.fullmatch(text) is None:
                reader = reader_of(text)
                assert reader is not None
                self._others.append((number, slice(one.begin, one.end), reader))
                continue
            decimals = len(text.partition(".")[2])
            self._divisors[number] = -(10.0**decimals) if text[0] == "-" else 10.0**decimals
            weights += [(at, number, 10.0**power) for power, at in enumerate(reversed(digits))]
        self._places = np.array([at for at, _, _ in weights], dtype=np.intp)
        self._weights = np.zeros((len(weights), len(places)))
        for row, (_, number, weight) in enumerate(weights):
            self._weights[row, number] = weight

    def values(self, lines: Sequence[bytes]) -> list[list[float]]:
        rows: NDArray[np.uint8] = np.frombuffer(b"".join(lines), np.uint8).reshape(len(lines), -1)
        digits = (rows[:, self._places] - ord("0")).astype(np.float64)
        columns: list[list[float]] = ((digits @ self._weights) / self._divisors).T.tolist()
        for number, part, reader in self._others:
            columns[number] = [reader(line[part].decode()) for line in lines]
        for number, factor in enumerate(self._factors):
            if factor != 1.0:
                columns[number] = [value * factor for value in columns[number]]
        return columns
