"""The language of constraints, conditions and sizes: Python's syntax, none of its powers.

The text is parsed by `ast`, every node is checked against a whitelist, and what is left becomes
closures over numpy columns. Nothing is ever evaluated as Python. The same expression serves a
million configs or one.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np

from autotune.config import ParameterValue
from autotune.errors import BadInput
from autotune.space import column as ops
from autotune.space.column import INACTIVE, KNOWN, Array, Column

MAX_LENGTH = 1000
MAX_DEPTH = 30

Columns = Mapping[str, Column]
Evaluator = Callable[[Columns], Column]

KEYWORDS = frozenset({"and", "or", "not", "in", "is", "if", "else", "True", "False", "None"})
FUNCTIONS = frozenset({"min", "max", "abs"})

_COMPARE: dict[type, str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_ARITHMETIC: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}


@dataclass(frozen=True)
class Expression:
    """A checked expression; make one with `parse`. Equal text, equal expression."""

    text: str
    names: frozenset[str]
    _evaluate: Evaluator

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and travels between processes as its text."""
        return Expression.parse, (self.text,)

    @staticmethod
    @lru_cache(maxsize=4096)
    def parse(text: str) -> Expression:
        """Check and compile; BadInput says what is not allowed and what is."""
        if len(text) > MAX_LENGTH:
            raise BadInput(f"expression longer than {MAX_LENGTH} characters: {text[:60]}...")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text.strip().replace("\n", " "), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            what = error.msg if isinstance(error, SyntaxError) else "cannot be read"
            raise BadInput(f"expression {text!r}: {what}") from None
        compiler = _Compiler()
        try:
            evaluate = compiler.compile(tree, 0)
        except BadInput as error:
            raise BadInput(f"expression {text!r}: {error}") from None
        return Expression(text.strip(), frozenset(compiler.names), evaluate)

    def evaluate(self, columns: Columns) -> Column:
        """The value for every row of `columns` (arrays of n rows; constants 0-dimensional).

        BadInput for a name that `columns` lacks, and where text meets numbers.
        """
        for name in self.names:
            if name not in columns:
                raise BadInput.unknown("name", name, columns, f"expression {self.text!r}")
        try:
            return self._evaluate(columns)
        except BadInput as error:
            raise BadInput(f"expression {self.text!r}: {error}") from None

    def holds(self, columns: Columns) -> Array:
        """Where the expression is known to be true: the meaning of `when`."""
        result = ops.truth(self.evaluate(columns))
        return np.asarray(result.data & (result.unknown == KNOWN))

    def met(self, columns: Columns) -> Array:
        """Where a rule is met: true, or open because it speaks of an inactive parameter.

        A rule that cannot be computed (division by zero) is not met.
        """
        result = ops.truth(self.evaluate(columns))
        true = result.data & (result.unknown == KNOWN)
        return np.asarray(true | (result.unknown == INACTIVE))

    def value(self, facts: Mapping[str, ParameterValue]) -> ParameterValue:
        """The value for one config; None where it is unknown."""
        result = self.evaluate({name: ops.constant(fact) for name, fact in facts.items()})
        if result.unknown.any():
            return None
        return cast(ParameterValue, result.data.item())


class _Compiler:
    """Turns whitelisted syntax into closures and collects the names used."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def compile(self, node: ast.expr, depth: int) -> Evaluator:
        if depth > MAX_DEPTH:
            raise BadInput(f"nested deeper than {MAX_DEPTH} levels")
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise BadInput(
                f"{ast.unparse(node)[:60]!r} is not allowed; there are and, or, not, comparisons, "
                "in, + - * / // % **, min, max, abs, if/else, names, numbers and quoted text"
            )
        return cast(Evaluator, method(node, depth + 1))

    def _name(self, node: ast.Name, depth: int) -> Evaluator:
        name = node.id
        self.names.add(name)
        return lambda columns: columns[name]

    def _constant(self, node: ast.Constant, depth: int) -> Evaluator:
        column = ops.constant(_literal(node))
        return lambda columns: column

    def _boolop(self, node: ast.BoolOp, depth: int) -> Evaluator:
        combine = ops.logical_and if isinstance(node.op, ast.And) else ops.logical_or
        parts = [self.compile(value, depth) for value in node.values]

        def evaluate(columns: Columns) -> Column:
            result = ops.truth(parts[0](columns))
            for part in parts[1:]:
                result = combine(result, part(columns))
            return result

        return evaluate

    def _unaryop(self, node: ast.UnaryOp, depth: int) -> Evaluator:
        operand = self.compile(node.operand, depth)
        if isinstance(node.op, ast.Not):
            return lambda columns: ops.logical_not(operand(columns))
        if isinstance(node.op, ast.USub):
            return lambda columns: ops.negative(operand(columns))
        raise BadInput(
            f"{ast.unparse(node)[:60]!r} is not allowed; of the signs only - and not are"
        )

    def _binop(self, node: ast.BinOp, depth: int) -> Evaluator:
        operator = _ARITHMETIC.get(type(node.op))
        if operator is None:
            raise BadInput(f"{ast.unparse(node)[:60]!r}: known operators are + - * / // % **")
        left, right = self.compile(node.left, depth), self.compile(node.right, depth)
        return lambda columns: ops.calculate(operator, left(columns), right(columns))

    def _ifexp(self, node: ast.IfExp, depth: int) -> Evaluator:
        condition = self.compile(node.test, depth)
        yes, no = self.compile(node.body, depth), self.compile(node.orelse, depth)
        return lambda columns: ops.choose(condition(columns), yes(columns), no(columns))

    def _call(self, node: ast.Call, depth: int) -> Evaluator:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS or node.keywords:
            raise BadInput(f"{ast.unparse(node)[:60]!r}: known functions are abs, max, min")
        parts = [self.compile(argument, depth) for argument in node.args]
        if name == "abs" and len(parts) == 1:
            return lambda columns: ops.absolute(parts[0](columns))
        if name == "abs" or len(parts) < 2:
            raise BadInput(f"{name} takes {'one value' if name == 'abs' else 'two or more values'}")
        function = np.minimum if name == "min" else np.maximum
        return lambda columns: ops.extreme(function, [part(columns) for part in parts])

    def _compare(self, node: ast.Compare, depth: int) -> Evaluator:
        links: list[Evaluator] = []
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            links.append(self._link(left, operator, right, depth))
            left = right

        def evaluate(columns: Columns) -> Column:
            result = links[0](columns)
            for link in links[1:]:
                result = ops.logical_and(result, link(columns))
            return result

        return evaluate

    def _link(self, left: ast.expr, operator: ast.cmpop, right: ast.expr, depth: int) -> Evaluator:
        negated = isinstance(operator, (ast.NotEq, ast.IsNot, ast.NotIn))
        if isinstance(operator, (ast.In, ast.NotIn)):
            return self._membership(left, right, negated, depth)
        if isinstance(right, ast.Constant) and right.value is None:
            operand = self.compile(left, depth)
            return lambda columns: _is_none(operand(columns), negated)
        if isinstance(operator, (ast.Is, ast.IsNot)):
            raise BadInput("`is` is only for None; use == for values")
        symbol = _COMPARE[type(operator)]
        x, y = self.compile(left, depth), self.compile(right, depth)
        return lambda columns: ops.compare(symbol, x(columns), y(columns))

    def _membership(self, left: ast.expr, right: ast.expr, negated: bool, depth: int) -> Evaluator:
        operand = self.compile(left, depth)
        if not isinstance(right, (ast.List, ast.Tuple, ast.Set)):
            raise BadInput("the right side of `in` has to be a list of values, such as [1, 2]")
        members = [_literal(item) for item in right.elts]

        def evaluate(columns: Columns) -> Column:
            found = ops.is_member(operand(columns), members)
            return ops.logical_not(found) if negated else found

        return evaluate


def _is_none(column: Column, negated: bool) -> Column:
    missing = np.asarray(column.is_none())
    return Column(~missing if negated else missing, np.asarray(KNOWN))


def _literal(node: ast.expr) -> ParameterValue:
    """A number, text, boolean or None; a minus sign before a number is part of it."""
    sign: Any = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    value = node.value if isinstance(node, ast.Constant) else ...
    if sign == 1 and (value is None or isinstance(value, (str, bool))):
        return value
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return cast(ParameterValue, sign * value)
    raise BadInput(f"{ast.unparse(node)[:60]!r} is not a plain number, text, True, False or None")
