"""A second, slow reading of the expression language, written from docs/spaces.md alone.

Plain recursion over Python values for one config; the tests hold the numpy one against it.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Mapping
from typing import Any


class Unknown:
    """A value that is not there; `rank` decides which reason survives a combination."""

    def __init__(self, rank: int) -> None:
        self.rank = rank


INACTIVE, UNDEFINED = Unknown(1), Unknown(2)


class TooLarge(Exception):
    """An intermediate result beyond exact floats: rounding would decide, so do not compare."""


COMPARE = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def reference_value(text: str, facts: Mapping[str, Any]) -> Any:
    """The value of an expression; INACTIVE or UNDEFINED where there is none."""
    return _value(ast.parse(text, mode="eval").body, facts)


def reference_met(text: str, facts: Mapping[str, Any]) -> bool:
    """Whether a constraint lets this config through."""
    value = reference_value(text, facts)
    return value is INACTIVE or (not isinstance(value, Unknown) and bool(value))


def reference_holds(text: str, facts: Mapping[str, Any]) -> bool:
    """Whether a `when` is known to be true."""
    value = reference_value(text, facts)
    return not isinstance(value, Unknown) and bool(value)


def _worst(*values: Any) -> Any:
    unknown = [value for value in values if isinstance(value, Unknown)]
    return max(unknown, key=lambda value: value.rank) if unknown else None


def _and(values: list[Any]) -> Any:
    if any(not isinstance(value, Unknown) and not value for value in values):
        return False
    return _worst(*values) or True


def _not(value: Any) -> Any:
    return value if isinstance(value, Unknown) else not value


def _or(values: list[Any]) -> Any:
    return _not(_and([_not(value) for value in values]))


def _value(node: ast.expr, facts: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return INACTIVE if facts[node.id] is None else facts[node.id]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BoolOp):
        values = [_value(item, facts) for item in node.values]
        return _and(values) if isinstance(node.op, ast.And) else _or(values)
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, facts)
        if isinstance(node.op, ast.Not):
            return _not(inner)
        return inner if isinstance(inner, Unknown) else -inner
    if isinstance(node, ast.IfExp):
        condition = _value(node.test, facts)
        if isinstance(condition, Unknown):
            return condition
        return _value(node.body if condition else node.orelse, facts)
    if isinstance(node, ast.BinOp):
        return _calculate(type(node.op), _value(node.left, facts), _value(node.right, facts))
    if isinstance(node, ast.Call):
        values = [_value(item, facts) for item in node.args]
        return _worst(*values) or {"min": min, "max": max, "abs": lambda x: abs(x[0])}[
            node.func.id  # type: ignore[attr-defined]
        ](values)
    assert isinstance(node, ast.Compare)
    left, links = node.left, []
    for op, right in zip(node.ops, node.comparators, strict=True):
        links.append(_link(op, left, right, facts))
        left = right
    return _and(links) if len(links) > 1 else links[0]


def _link(op: ast.cmpop, left: ast.expr, right: ast.expr, facts: Mapping[str, Any]) -> Any:
    x = _value(left, facts)
    if isinstance(right, ast.Constant) and right.value is None:
        positive = isinstance(op, (ast.Eq, ast.Is))
        return (x is INACTIVE) == positive
    if isinstance(op, (ast.In, ast.NotIn)):
        members = [ast.literal_eval(item) for item in right.elts]  # type: ignore[attr-defined]
        if x is INACTIVE and None in members:
            found: Any = True
        else:
            found = x if isinstance(x, Unknown) else any(x == m for m in members if m is not None)
        return _not(found) if isinstance(op, ast.NotIn) else found
    y = _value(right, facts)
    return _worst(x, y) or COMPARE[type(op)](x, y)


def _calculate(op: type[ast.operator], x: Any, y: Any) -> Any:
    if _worst(x, y):
        return _worst(x, y)
    if (op in (ast.Div, ast.FloorDiv, ast.Mod) and y == 0) or (op is ast.Pow and abs(y) > 64):
        return UNDEFINED
    try:
        result = ARITHMETIC[op](x, y)
    except (ZeroDivisionError, OverflowError):
        return UNDEFINED
    if isinstance(result, complex):
        return UNDEFINED
    if math.isfinite(result) and abs(result) > 2**53:
        raise TooLarge
    return result if math.isfinite(result) else UNDEFINED
