"""Enumerates the legal set, parameter by parameter, each rule as early as its names allow.

Every partial row stands for as many raw points as the parameters still to come have
combinations, so what a rule excludes early is counted exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autotune.errors import BadInput
from autotune.space.checks import check_expression
from autotune.space.column import Array
from autotune.space.expression import Expression
from autotune.space.legal_set import LegalSet
from autotune.space.names import Rows
from autotune.space.rule import Rule
from autotune.space.search_space import SearchSpace

MAX_ROWS = 8_000_000

DIVIDES_WORLD = Rule(
    "world_size % model_parallel_size == 0",
    "tensor x pipeline x context parallel size has to divide the number of GPUs",
    "built-in",
)
DIVIDES_BATCH = Rule(
    "global_batch_size % (micro_batch_size * data_parallel_size) == 0",
    "the global batch has to be a whole number of micro batches on every data-parallel rank",
    "built-in",
)


def build_legal_set(space: SearchSpace, rules: Sequence[Rule] = ()) -> LegalSet:
    """All configs that meet the built-in rules, the space's own and `rules` (a framework's).

    BadInput when nothing is left (with what each rule excluded), when the baseline is not
    legal, and when there are more than MAX_ROWS configs.
    """
    everything = (*_built_in(space), *space.rules, *rules)
    walk = _Walk(space, everything)
    codes = walk.run()
    exclusions = [(rule, count) for rule, count in walk.excluded.items() if count]
    raw_points = math.prod(len(choices) for choices in space.choices.values())
    if not len(codes):
        raise BadInput(_emptied(space, raw_points, exclusions, walk.last))
    legal = LegalSet(space, codes, everything, raw_points, exclusions)
    _ = legal.baseline
    return legal


def _built_in(space: SearchSpace) -> tuple[Rule, ...]:
    parallel = space.names.parameters_of(Expression.parse("model_parallel_size"))
    rules = (DIVIDES_WORLD,) if parallel else ()
    batched = "num_micro_batches" in space.names.derived
    return (*rules, DIVIDES_BATCH) if batched else rules


def _emptied(
    space: SearchSpace, raw: int, exclusions: Sequence[tuple[Rule, int]], last: Rule | None
) -> str:
    counts = "\n".join(f"  {count:>12,}  {rule}" for rule, count in exclusions)
    return (
        f"{space.source or space.name}: no legal config is left of {raw:,} raw points; "
        f"the last ones fell to: {last}\n{counts}"
    )


@dataclass
class _Walk:
    """The rows so far (codes by parameter) and the count of what each rule excluded."""

    space: SearchSpace
    rules: Sequence[Rule]
    rows: dict[str, Array] = field(default_factory=dict)
    count: int = 1
    excluded: dict[Rule, int] = field(default_factory=dict)
    last: Rule | None = None

    def run(self) -> Array:
        """Codes int16 (n, k) in the order of the space's parameters."""
        waiting = [(rule, self._checked(rule)) for rule in self.rules]
        remaining = math.prod(len(choices) for choices in self.space.choices.values())
        names = self.space.names
        done: set[str] = set()
        waiting = self._constant_rules(waiting, remaining)
        order = _early(self.space, [names.parameters_of(e) for _, e in waiting])
        for name in order:
            done.add(name)
            remaining //= len(self.space.choices[name])
            ready = [(r, e) for r, e in waiting if names.parameters_of(e) <= done]
            waiting = [item for item in waiting if item not in ready]
            self._extend(name, ready, remaining)
        columns = [self.rows[name] for name in self.space.choices]
        if not columns:
            return np.zeros((self.count, 0), dtype=np.int16)
        return np.stack(columns, axis=1)

    def _checked(self, rule: Rule) -> Expression:
        try:
            return check_expression(rule.expression, self.space.names, rule.origin != "space")
        except BadInput as error:
            raise BadInput(f"rule of {rule.origin}: {error}") from None

    def _constant_rules(
        self, waiting: list[tuple[Rule, Expression]], points: int
    ) -> list[tuple[Rule, Expression]]:
        """Apply rules that no parameter can change; they exclude everything or nothing."""
        later = []
        for rule, expression in waiting:
            if self.space.names.parameters_of(expression):
                later.append((rule, expression))
            elif self.count and not expression.met(Rows(self.space.names, {}, lenient=True)):
                self._exclude(rule, points)
                self.count = 0
        return later

    def _exclude(self, rule: Rule, points: int) -> None:
        if points:
            self.excluded[rule] = self.excluded.get(rule, 0) + points
            self.last = rule

    def _extend(self, name: str, ready: Sequence[tuple[Rule, Expression]], remaining: int) -> None:
        """Give every row each choice of one parameter (or -1) and drop what breaks a rule."""
        choices = self.space.choices[name]
        exists = self._exists(name)
        present, absent = np.flatnonzero(exists), np.flatnonzero(~exists)
        kept: list[Array] = []
        codes: list[Array] = []
        total = 0
        for code in range(-1, len(choices)):
            index = present if code >= 0 else absent
            if code < 0:
                when = self.space.parameters[name].when or ""
                rule = Rule(when, f"{name} exists only then; its values count once", "conditional")
                self._exclude(rule, index.size * (len(choices) - 1) * remaining)
            index = self._filter(index, name, code, ready, remaining)
            kept.append(index)
            codes.append(np.full(index.size, code, dtype=np.int16))
            total += index.size
            if total > MAX_ROWS:
                raise BadInput(
                    f"{self.space.source or self.space.name}: more than {MAX_ROWS:,} configs by "
                    f"parameter {name}; offer fewer values or add constraints"
                )
        gather = np.concatenate(kept)
        self.rows = {other: column[gather] for other, column in self.rows.items()}
        self.rows[name] = np.concatenate(codes)
        self.count = total

    def _exists(self, name: str) -> Array:
        when = self.space.parameters[name].when
        if when is None:
            return np.ones(self.count, dtype=bool)
        holds = Expression.parse(when).holds(Rows(self.space.names, self.rows))
        return np.broadcast_to(holds, (self.count,))

    def _filter(
        self,
        index: Array,
        name: str,
        code: int,
        ready: Sequence[tuple[Rule, Expression]],
        remaining: int,
    ) -> Array:
        rows: Mapping[str, Array] | None = None
        for rule, expression in ready:
            if not index.size:
                break
            if rows is None:
                rows = {other: column[index] for other, column in self.rows.items()}
                rows[name] = np.asarray(code, dtype=np.int16)
            met = np.broadcast_to(
                expression.met(Rows(self.space.names, rows, lenient=True)), index.shape
            )
            if not met.all():
                self._exclude(rule, int((~met).sum()) * remaining)
                index, rows = index[met], None
        return index


def _early(space: SearchSpace, needs: Sequence[frozenset[str]]) -> list[str]:
    """An order that lets rules apply early: next comes what completes a rule, else as written."""
    order: list[str] = []
    conditions = {
        name: space.names.parameters_of(Expression.parse(p.when)) if p.when else frozenset()
        for name, p in space.parameters.items()
    }
    while len(order) < len(conditions):
        done = set(order)
        ready = [n for n in conditions if n not in done and conditions[n] <= done]
        completing = [n for n in ready if any(n in need <= done | {n} for need in needs)]
        order.append((completing or ready)[0])
    return order
