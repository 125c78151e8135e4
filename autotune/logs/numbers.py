"""Reads numbers as training programs write them: ``1,018.20``, ``4.71K``, ``0:14:31.66``."""

from __future__ import annotations

NUMBER = (
    r"(?:[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
    r"|[-+]?(?i:nan|inf(?:inity)?)\b)"
)
"""A regular expression for one number: separators, exponents, nan and inf included."""

SCALES = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


def read_number(text: str) -> float | None:
    """The value of ``text``, None where it is no number.

    Thousands separators, the suffixes K M G B T and durations ``[days, ]h:mm:ss`` are read.
    """
    text = text.strip().replace(",", "").replace("_", "")
    scale = SCALES.get(text[-1:], 1.0)
    try:
        return float(text if scale == 1.0 else text[:-1]) * scale
    except ValueError:
        return _read_duration(text) if ":" in text else None


def _read_duration(text: str) -> float | None:
    """Seconds of ``mm:ss``, ``h:mm:ss.ss`` or ``1 day h:mm:ss``."""
    days, _, clock = text.rpartition(" ")
    try:
        seconds = float(days.split()[0]) * 86400.0 if days else 0.0
        for power, part in enumerate(reversed(clock.split(":"))):
            seconds += float(part) * 60.0**power
    except (ValueError, IndexError):
        return None
    return seconds
