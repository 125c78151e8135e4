"""Which lines of a block may hold one of many literals, without looking at any line.

Nearly every line of a log matches none of the few hundred literals that formats and failures
are told by. So each literal is known by its rarest four characters, its stem; the block's
characters fall into 32 classes, four of them in a row make a number of 20 bits, and a table of
all such numbers tells which are a stem. That is a handful of numpy calls a block, whatever the
number of literals. A line that is named may hold none of them; one that is not named holds none.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from autotune.logs.shape import MAX_CACHED_LINE

_LENGTH = 4
_PIECE = 16 * 1024
"""Arrays for so many characters stay in the cache, and are not mapped anew each time."""

_CLASSES = 32
_RARE_FIRST = "zqxjkvbpygfwm-_/:.,()[]ucldrhsnioate "
_ORDINARY = (
    "iteration training from process loading running starting finished information memory rank "
    "configuration parallel parameters gradient optimizer learning rate loss step time samples "
    "tokens throughput device connection worker world size reading fetching into the cache model "
    "tokenizer dataset checkpoint saving initialized value number total seconds skipped"
)
"""What healthy logs are full of; a stem out of it would name every line."""

_OTHERS = {**dict.fromkeys("0123456789", 27), " ": 28, **dict.fromkeys("_-", 29)}
_OTHERS |= dict.fromkeys(".:/", 30)
_REST = 31
_CONTROL = 0


def _class_of(character: str) -> int:
    """1 to 26 for a letter of either case; no literal holds class 0: line ends and tabs."""
    lowered = character.lower()
    if character < " ":
        return _CONTROL
    if lowered.isascii() and lowered.isalpha():
        return ord(lowered) - ord("a") + 1
    return _OTHERS.get(lowered, _REST)


_TO_CLASSES = bytes(_class_of(chr(byte)) if byte < 128 else _REST for byte in range(256))


class Stems:
    """The stems of groups of literals, in ASCII and looked up regardless of case."""

    def __init__(self, groups: tuple[tuple[str, ...], ...]) -> None:
        self._everyone = (1 << len(groups)) - 1
        self._always = sum(1 << place for place, group in enumerate(groups) if "" in group)
        self._table = np.zeros(_CLASSES**_LENGTH, dtype=np.uint8)
        for place, group in enumerate(groups):
            for literal in filter(None, group):
                self._table[_numbers(_stem(literal))] |= 1 << place

    def lines(self, block: bytes) -> list[int]:
        """For each line of a block the groups that it may hold a literal of, as bits from 1.

        Of a very long line, which readers cut, and of one with characters beyond ASCII, some of
        which have lower cases within it, nothing can be said: it may hold any.
        """
        characters = np.frombuffer(block, np.uint8)
        ends = np.append(np.flatnonzero(characters == ord("\n")), len(block))
        groups = np.full(len(ends), self._always, dtype=np.uint8)
        groups[np.diff(ends, prepend=-1) > MAX_CACHED_LINE] = self._everyone
        if not block.isascii():
            groups[np.searchsorted(ends, np.flatnonzero(characters >= 128))] = self._everyone
        for begin in range(0, len(block), _PIECE):
            found = self._table.take(_numbers_in(block[begin : begin + _PIECE + _LENGTH - 1]))
            places = np.flatnonzero(found != 0)
            np.bitwise_or.at(groups, np.searchsorted(ends, begin + places), found[places])
        told: list[int] = groups.tolist()
        return told


@lru_cache(maxsize=16)
def stems_of(*groups: tuple[str, ...]) -> Stems:
    """The table of these literals, a megabyte, made once."""
    return Stems(groups)


def _numbers_in(block: bytes) -> NDArray[np.int32]:
    """The number of the four characters that begin at each place of the block."""
    padded = block + b"\n" * (_LENGTH - 1)
    classes = np.frombuffer(padded.translate(_TO_CLASSES), np.uint8).astype(np.uint16)
    pairs = (classes[:-1] << 5) | classes[1:]
    return (pairs[:-2].astype(np.int32) << 10) | pairs[2:]


def _stem(literal: str) -> str:
    """The four characters in a row that are rarest in English, or all of a shorter literal."""
    places = range(max(1, len(literal) - _LENGTH + 1))
    return min((literal[at : at + _LENGTH].lower() for at in places), key=_commonness)


def _commonness(stem: str) -> tuple[bool, int]:
    return stem in _ORDINARY, sum(_RARE_FIRST.find(character) + 1 for character in stem)


def _numbers(stem: str) -> list[int]:
    """All four-character numbers that begin with the stem."""
    known = [[_class_of(character)] for character in stem]
    open_ends = [list(range(_CLASSES))] * (_LENGTH - len(stem))
    numbers = []
    for classes in product(*known, *open_ends):
        number = 0
        for one in classes:
            number = number * _CLASSES + one
        numbers.append(number)
    return numbers
