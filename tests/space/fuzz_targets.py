"""Entries for fuzzing what strangers may write: any input, and only `BadInput` may come out.

Used by hypothesis in test_fuzz.py; a longer campaign or atheris can call the same functions.
"""

from __future__ import annotations

from autotune.errors import BadInput
from autotune.space import Expression, build_legal_set, parse_space
from autotune.space.column import constant

MAX_RAW_POINTS = 10_000


def fuzz_loader(data: bytes) -> bool:
    """Load bytes as a space and, if it loads and is small, enumerate it; True if it loaded."""
    text = data.decode("utf-8", errors="surrogateescape")
    try:
        space = parse_space(text, "fuzz")
        raw_points = 1
        for choices in space.choices.values():
            raw_points *= len(choices)
        if raw_points <= MAX_RAW_POINTS:
            build_legal_set(space)
        parse_space(space.to_yaml(), "again")
    except BadInput as error:
        assert str(error)
        return False
    return True


def fuzz_override(override: str, text: str) -> bool:
    """Apply any override to a sound space; True if it was accepted."""
    try:
        parse_space(text, "fuzz", [override])
    except BadInput as error:
        assert str(error)
        return False
    return True


def fuzz_expression(text: str) -> bool:
    """Parse and compute any text; True if it is an expression over `a`, `b` and `s`."""
    columns = {"a": constant(4), "b": constant(None), "s": constant("full")}
    try:
        Expression.parse(text).met(columns)
    except BadInput as error:
        assert str(error)
        return False
    return True
