"""Turns whatever bytes a training program prints into clean lines, with bounded memory.

Programs colour their output, redraw bars with a carriage return, write NUL bytes and broken
UTF-8, and some never end a line. None of that may reach a pattern, raise, or fill memory.
"""

from __future__ import annotations

import re

import numpy as np

_ANSI = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    rb"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    rb"|\x1b[@-Z\\^_=>]"
)
_OF_A_COLOUR = np.isin(np.arange(256), list(b"0123456789;"))
_LONGEST_COLOUR = 8
_LOST_COLOUR = re.compile(rb"\[[0-9]{1,3}(?:;[0-9]{1,3})*m")
_CONTROLS = bytes([*range(0x09), *range(0x0B, 0x20), 0x7F])

CUT_MARK = " ... "


class LogReader:
    """Bytes in any chunking, lines out; the same bytes give the same lines.

    A line ends at ``\\n`` or ``\\r``; empty lines are dropped. Of a line longer than
    ``head + tail`` bytes the first ``head`` and the last ``tail`` bytes are kept.
    """

    def __init__(self, head: int = 48 * 1024, tail: int = 16 * 1024) -> None:
        self._head = head
        self._tail = tail
        self._rest = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completed, without line ends."""
        data = data.translate(None, b"\0")
        if b"\r" in data:
            data = data.replace(b"\r", b"\n")
        end = data.rfind(b"\n")
        if end < 0:
            self._hold(data)
            return []
        first, _, block = data[:end].partition(b"\n")
        self._hold(first)
        lines = self.close()
        if len(block) > self._head + self._tail:
            block = b"\n".join(self._shorten(line) for line in block.split(b"\n"))
        lines += clean(block)
        self._hold(data[end + 1 :])
        return lines

    def close(self) -> list[str]:
        """The last line, where the log ended without a line end."""
        last = bytes(self._rest)
        if self._cut or len(last) > self._head + self._tail:
            last = last[: self._head] + CUT_MARK.encode() + last[-self._tail :]
        self._rest, self._cut = bytearray(), False
        return clean(last)

    def _hold(self, part: bytes) -> None:
        self._rest += part
        if len(self._rest) > 4 * (self._head + self._tail):
            del self._rest[self._head : -self._tail]
            self._cut = True

    def _shorten(self, line: bytes) -> bytes:
        if len(line) <= self._head + self._tail:
            return line
        return line[: self._head] + CUT_MARK.encode() + line[-self._tail :]


def clean(block: bytes) -> list[str]:
    """Lines of a block without escape sequences, control characters and empty lines."""
    return [line for line in wash(block).decode("utf-8", "replace").split("\n") if line]


def wash(block: bytes) -> bytes:
    """The block without escape sequences and control characters; ``\\r`` ends a line."""
    if b"\r" in block:
        block = block.replace(b"\r", b"\n")
    if b"\x1b" in block:
        block = _without_colours(block)
    if b"\x1b" in block:
        block = _ANSI.sub(b"", block)
    if b"[0m" in block:
        lines = block.split(b"\n")
        block = b"\n".join(_LOST_COLOUR.sub(b"", x) if b"[0m" in x else x for x in lines)
    return block.translate(None, _CONTROLS)


def _without_colours(block: bytes) -> bytes:
    """The block without ``ESC[1;31m`` and its like, which are nearly all sequences there are."""
    text = np.frombuffer(block + b"\n" * (_LONGEST_COLOUR + 3), np.uint8)
    begins = np.flatnonzero(text == ord("\x1b"))
    begins = begins[text[begins + 1] == ord("[")]
    ends = begins + 2
    for _ in range(_LONGEST_COLOUR):
        ends += _OF_A_COLOUR[text[ends]]
    whole = text[ends] == ord("m")
    begins, ends = begins[whole], ends[whole]
    kept = np.ones(len(text), np.bool_)
    for place in range(_LONGEST_COLOUR + 3):
        kept[np.minimum(begins + place, ends)] = False
    washed: bytes = text[kept][: -_LONGEST_COLOUR - 3].tobytes()
    return washed
