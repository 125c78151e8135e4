"""The finite set of configs that break no rule: what the search draws from, and nothing else.

Stored as codes (positions in each parameter's choices), sorted, so that a million configs take
two bytes a parameter and finding one is a binary search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.config import Config, ParameterValue
from autotune.errors import BadInput
from autotune.space.column import KNOWN, Array
from autotune.space.contract import CONTRACT_KEYS
from autotune.space.expression import Expression
from autotune.space.names import Rows
from autotune.space.rule import Rule
from autotune.space.search_space import SearchSpace

Exclusion = tuple[Rule, int]


class LegalSet:
    """All legal configs of a space, in the order of their codes.

    `codes` is int16 (n, k) over `names`; -1 marks a parameter that does not exist in that
    config. `raw_points` is the product of the numbers of choices; `exclusions` says for every
    rule how many raw points fell to it first, so that
    `raw_points == len(self) + sum(count for _, count in exclusions)` exactly.
    """

    def __init__(
        self,
        space: SearchSpace,
        codes: NDArray[np.int16],
        rules: Sequence[Rule],
        raw_points: int,
        exclusions: Sequence[Exclusion],
    ) -> None:
        self.space = space
        self.names = tuple(space.choices)
        self.choices = dict(space.choices)
        self.rules = tuple(rules)
        self.raw_points = raw_points
        self.exclusions = list(exclusions)
        order, keys = _sorted(codes, [len(self.choices[name]) for name in self.names])
        self.codes: NDArray[np.int16] = codes[order]
        self._keys = keys
        self.codes.setflags(write=False)

    def __len__(self) -> int:
        return len(self.codes)

    def column(self, name: str) -> Array:
        """One value for each config, for a parameter, a derived size or a constant (n,).

        Numbers are int64 or float64, booleans bool, text a fixed-width text array, mixed kinds
        objects. Where it does not exist: parallel sizes 1, integers 0, floats nan, booleans
        False, text "", mixed None; `codes` tells inactive entries apart.
        """
        if name not in self.space.names.known:
            raise BadInput.unknown("column", name, self.space.names.known)
        return self._column(self._rows(), name)

    def columns(self) -> dict[str, Array]:
        """Columns of all parameters and derived sizes, for the cost model."""
        rows = self._rows()
        return {name: self._column(rows, name) for name in (*self.names, *self.space.names.derived)}

    def _rows(self) -> Rows:
        return Rows(self.space.names, dict(zip(self.names, self.codes.T, strict=True)))

    def _column(self, rows: Rows, name: str) -> Array:
        data, unknown = rows[name].data, rows[name].unknown
        if name in self.space.names.derived and unknown.any():
            data = np.where(unknown == KNOWN, data, 0)
        return np.broadcast_to(data, (len(self),))

    def config(self, index: int) -> Config:
        """The config at an index, with its derived sizes; IndexError beyond the end."""
        row = self.codes[index]
        values = {
            name: None if code < 0 else self.choices[name][code]
            for name, code in zip(self.names, row.tolist(), strict=True)
        }
        single = Rows(self.space.names, dict(zip(self.names, row, strict=True)))
        derived = {name: single.value(name) for name in self.space.names.derived}
        return Config(values, {k: int(v) for k, v in derived.items() if v is not None})

    def find(self, values: Mapping[str, ParameterValue]) -> int | None:
        """The index of a config; None when it is not legal. Inactive parameters may be left out."""
        if not set(values) <= set(self.names):
            return None
        row = [self.space.names.code(name, values.get(name)) for name in self.names]
        if any(code is None for code in row):
            return None
        wanted = _keys(np.array([row], dtype=np.int16), self._sizes())
        low, high = 0, len(self)
        for key, sought in zip(self._keys, wanted, strict=True):
            part = key[low:high]
            low, high = (low + int(np.searchsorted(part, sought[0], s)) for s in ("left", "right"))
        return low if low < high else None

    def _sizes(self) -> list[int]:
        return [len(self.choices[name]) for name in self.names]

    @cached_property
    def baseline(self) -> int:
        """The index of the baseline; BadInput says which rule it breaks."""
        values = self.complete(self.space.baseline)
        index = self.find(values)
        if index is None:
            place = self.space.source or self.space.name
            raise BadInput(f"{place}: baseline: {self.why_illegal(values)}")
        return index

    def complete(self, values: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
        """Values with what has no alternative filled in: single choices and contract values.

        Without any values at all: the first legal config. BadInput for a contract value that
        the parameter does not offer.
        """
        if not values:
            return dict(self.config(0).values)
        filled = dict(values)
        for name in self.space.order:
            if name in filled or not self._exists(name, filled):
                continue
            contract = self.space.constants.get(name)
            if len(self.choices[name]) == 1:
                filled[name] = self.choices[name][0]
            elif contract in self.choices[name]:
                filled[name] = contract
            elif contract is not None and name in CONTRACT_KEYS:
                raise BadInput(
                    f"{self.space.source or self.space.name}: contract.{name}, which is the "
                    f"baseline's: {self.space.names.not_offered(name, contract)}"
                )
        return filled

    def _exists(self, name: str, values: Mapping[str, ParameterValue]) -> bool:
        when = self.space.parameters[name].when
        if when is None:
            return True
        rows = Rows(self.space.names, self.space.names.encode(values))
        return bool(Expression.parse(when).holds(rows))

    def why_illegal(self, values: Mapping[str, ParameterValue]) -> str | None:
        """Which value is not on offer or which rule is broken; None for a legal config."""
        names = self.space.names
        for name, value in values.items():
            if name not in self.choices:
                return str(BadInput.unknown("parameter", name, self.names))
            if names.code(name, value) is None:
                return names.not_offered(name, value)
        for name in self.space.order:
            exists, given = self._exists(name, values), values.get(name) is not None
            when = self.space.parameters[name].when
            if exists and not given:
                return names.not_offered(name, None)
            if given and not exists:
                return f"{name} exists only when {when}"
        rows = Rows(names, names.encode(values), lenient=True)
        for rule in self.rules:
            if not Expression.parse(rule.expression).met(rows):
                return f"breaks {rule}"
        return None


def _chunks(sizes: Sequence[int]) -> list[list[int]]:
    """Groups of neighbouring parameters whose codes fit into one int64 together."""
    groups: list[list[int]] = []
    product = 1 << 62
    for index, size in enumerate(sizes):
        product *= size + 1
        if product >= 1 << 62:
            groups.append([])
            product = size + 1
        groups[-1].append(index)
    return groups


def _keys(codes: NDArray[np.int16], sizes: Sequence[int]) -> list[NDArray[np.int64]]:
    """Numbers (n,) that sort as the rows of codes do, most significant first."""
    keys = []
    for group in _chunks(sizes):
        key = np.zeros(len(codes), dtype=np.int64)
        for index in group:
            key = key * (sizes[index] + 1) + (codes[:, index].astype(np.int64) + 1)
        keys.append(key)
    return keys


def _sorted(codes: NDArray[np.int16], sizes: Sequence[int]) -> tuple[Any, list[NDArray[np.int64]]]:
    """The order that sorts the rows, and their keys in that order."""
    keys = _keys(codes, sizes)
    order = np.lexsort(keys[::-1]) if keys else np.arange(len(codes))
    return order, [key[order] for key in keys]
