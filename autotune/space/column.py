"""A column of values with what is not known about them, and the arithmetic of expressions.

Logic is three-valued, like SQL's: an entry may be unknown, because its parameter does not exist
in that config (INACTIVE) or because it cannot be computed, as in a division by zero (UNDEFINED).
`false and unknown` is false, `true or unknown` is true, everything else stays unknown. Who asks
decides what unknown means: see `Expression.met` and `Expression.holds`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.config import ParameterValue
from autotune.errors import BadInput

KNOWN, INACTIVE, UNDEFINED = np.uint8(0), np.uint8(1), np.uint8(2)
INTEGER_LIMIT = 1 << 62
MAX_EXPONENT = 64
MAX_FIXED_WIDTH = 32

Array = NDArray[Any]


@dataclass(frozen=True)
class Column:
    """`data` and `unknown` (uint8 of KNOWN, INACTIVE, UNDEFINED) broadcast against each other.

    `missing` marks rows where the parameter itself does not exist although a value stands in
    for it (parallel sizes count as 1); None where `unknown` tells it already.
    """

    data: Array
    unknown: Array
    missing: Array | None = None

    @property
    def is_text(self) -> bool:
        """Whether the entries are all text."""
        return self.data.dtype.kind == "U"

    def is_none(self) -> Array:
        """Rows in which the parameter does not exist."""
        return self.unknown == INACTIVE if self.missing is None else self.missing


def constant(value: ParameterValue) -> Column:
    """A column that is the same everywhere (0-dimensional); None is inactive."""
    if value is None:
        return Column(np.asarray(0), np.asarray(INACTIVE))
    if isinstance(value, int) and abs(value) >= INTEGER_LIMIT:
        raise BadInput("an integer of 2**62 or more is too large")
    return Column(np.asarray(value), np.asarray(KNOWN))


def choice_array(choices: Sequence[ParameterValue]) -> Array:
    """Choices plus one last slot for "inactive" (0, nan, False, "" by kind), so -1 indexes it.

    Choices of one kind give int64, float64, bool or text; mixed kinds and long text objects.
    """
    kinds = {type(choice) for choice in choices}
    if kinds == {bool}:
        return np.array([*choices, False], dtype=bool)
    if kinds == {int}:
        return np.array([*choices, 0], dtype=np.int64)
    if kinds <= {int, float}:
        return np.array([*choices, np.nan], dtype=np.float64)
    if kinds == {str} and max(len(str(choice)) for choice in choices) <= MAX_FIXED_WIDTH:
        return np.array([*choices, ""])
    return np.array([*choices, None], dtype=object)


def truth(column: Column) -> Column:
    """The column as booleans: numbers are true unless zero, text is refused."""
    if column.data.dtype.kind == "b":
        return column
    if column.data.dtype.kind in "UO":
        raise BadInput("text has no truth value; compare it with == or `in`")
    return Column(column.data != 0, column.unknown)


def logical_not(column: Column) -> Column:
    """`not x`; unknown stays unknown."""
    column = truth(column)
    return Column(~column.data, column.unknown)


def logical_and(left: Column, right: Column) -> Column:
    """`x and y`: false as soon as one side is known to be false."""
    left, right = truth(left), truth(right)
    is_false = _known(left, False) | _known(right, False)
    unknown = np.where(is_false, KNOWN, np.maximum(left.unknown, right.unknown))
    return Column(left.data & right.data & ~is_false, unknown)


def logical_or(left: Column, right: Column) -> Column:
    """`x or y`: true as soon as one side is known to be true."""
    return logical_not(logical_and(logical_not(left), logical_not(right)))


def _known(column: Column, value: bool) -> Array:
    return np.asarray((column.unknown == KNOWN) & (column.data == value))


def _like(column: Column, other: Column) -> Column:
    """A name that exists nowhere has no kind of its own: it takes that of what it meets."""
    if column.unknown.ndim == 0 and column.unknown == INACTIVE:
        return Column(np.zeros((), other.data.dtype), column.unknown, column.missing)
    return column


def choose(condition: Column, yes: Column, no: Column) -> Column:
    """`yes if condition else no`; unknown where the condition is."""
    condition, yes, no = truth(condition), _like(yes, no), _like(no, yes)
    if yes.is_text != no.is_text and "O" not in (yes.data.dtype.kind, no.data.dtype.kind):
        raise BadInput("both sides of if/else have to be text, or both numbers")
    taken = np.where(condition.data, yes.unknown, no.unknown)
    unknown = np.where(condition.unknown == KNOWN, taken, condition.unknown)
    return Column(np.where(condition.data, yes.data, no.data), unknown)


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def compare(operator: str, left: Column, right: Column) -> Column:
    """`x == y` and its kin; text only with == and != and only with text."""
    left, right = _like(left, right), _like(right, left)
    mixed = "O" in (left.data.dtype.kind, right.data.dtype.kind)
    if not mixed and left.is_text != right.is_text:
        raise BadInput(f"text is compared with a number by {operator}; they are never equal")
    if operator not in ("==", "!=") and (mixed or left.is_text):
        raise BadInput(f"text cannot be compared by {operator}; use == or `in`")
    data = np.asarray(COMPARISONS[operator](left.data, right.data)).astype(bool)
    return Column(data, np.maximum(left.unknown, right.unknown))


def is_member(column: Column, members: Sequence[ParameterValue]) -> Column:
    """`x in [a, b, None]`; None stands for "does not exist here"."""
    found = Column(np.zeros(np.shape(column.data), dtype=bool), column.unknown)
    for member in members:
        if member is None:
            found = logical_or(found, Column(column.is_none(), np.asarray(KNOWN)))
        else:
            found = logical_or(found, compare("==", column, constant(member)))
    return found


def _number(column: Column) -> Array:
    if column.data.dtype.kind in "UO":
        raise BadInput("text cannot be calculated with")
    return column.data.astype(np.int64) if column.data.dtype.kind == "b" else column.data


def _largest(data: Array) -> int:
    return max(abs(int(data.max())), abs(int(data.min()))) if data.size else 0


def calculate(operator: str, left: Column, right: Column) -> Column:
    """`+ - * / // % **` with Python's meaning; integers become floats where they would overflow.

    What has no finite real value (x/0, 0**-1, an exponent beyond 64) is UNDEFINED.
    """
    x, y = _number(left), _number(right)
    unknown = np.maximum(left.unknown, right.unknown)
    integers = x.dtype.kind == "i" and y.dtype.kind == "i"
    if operator in ("/", "//", "%"):
        unknown = np.where((y == 0) & (unknown == KNOWN), UNDEFINED, unknown)
        y = np.where(y == 0, 1, y)
    elif operator == "**":
        unknown = np.where((np.abs(y) > MAX_EXPONENT) & (unknown == KNOWN), UNDEFINED, unknown)
        y = np.where(np.abs(y) > MAX_EXPONENT, 1, y)
        integers = integers and bool(np.all(y >= 0))
    if integers and not _fits(operator, _largest(x), _largest(y)):
        integers = False
    if not integers:
        x, y = x.astype(np.float64), y.astype(np.float64)
    with np.errstate(all="ignore"):
        return _finite(_ARITHMETIC[operator](x, y), unknown)


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.true_divide,
    "//": np.floor_divide,
    "%": np.remainder,
    "**": np.power,
}


def _fits(operator: str, x: int, y: int) -> bool:
    """Whether an integer result from operands of at most this size stays below the limit."""
    bounds = {"+": x + y, "-": x + y, "*": x * y, "**": max(x, 1) ** y if operator == "**" else 0}
    return bounds.get(operator, 0) < INTEGER_LIMIT


def _finite(data: Any, unknown: Array) -> Column:
    data = np.asarray(data)
    if data.dtype.kind != "f":
        return Column(data, unknown)
    bad = ~np.isfinite(data)
    if bad.any():
        unknown = np.where(bad & (unknown == KNOWN), UNDEFINED, unknown)
        data = np.where(bad, 0.0, data)
    return Column(data, unknown)


def negative(column: Column) -> Column:
    """`-x`."""
    return Column(-_number(column), column.unknown)


def absolute(column: Column) -> Column:
    """`abs(x)`."""
    return Column(np.abs(_number(column)), column.unknown)


def extreme(function: Callable[[Any, Any], Any], columns: Sequence[Column]) -> Column:
    """`min(...)` or `max(...)` over two or more columns; `function` is np.minimum or np.maximum."""
    data, unknown = _number(columns[0]), columns[0].unknown
    for column in columns[1:]:
        data = function(data, _number(column))
        unknown = np.maximum(unknown, column.unknown)
    return Column(np.asarray(data), unknown)
