"""The shape of a log line: the line with every digit written as 0.

Logs repeat a few shapes endlessly, so that what was found out about one line (no pattern fits
it, it holds no failure) is known for all lines of its shape. That is what makes reading fast.
"""

from __future__ import annotations

MAX_SHAPES = 4096
"""Shapes remembered by each reader; it forgets all and starts anew beyond that."""

MAX_CACHED_LINE = 2048
"""Longer lines are looked at each time, to bound memory."""

MAX_LINE = 4096

_TABLE = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else byte for byte in range(256))


def shape_of(line: str) -> bytes:
    """The line's shape, UTF-8 (what cannot be encoded is written as ``?``)."""
    return digits_blanked(line.encode("utf-8", "replace"))


def digits_blanked(line: bytes) -> bytes:
    """The shape of a line in UTF-8."""
    return line.translate(_TABLE)


def shorten(line: str) -> str:
    """The line, or of a very long one its first and last 2,048 characters."""
    if len(line) <= MAX_LINE:
        return line
    return line[: MAX_LINE // 2] + line[-MAX_LINE // 2 :]
