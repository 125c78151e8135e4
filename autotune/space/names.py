"""What every name in an expression means: parameters, contract, cluster, model, derived sizes.

    parameters (searched) --+
    contract, cluster, model (constants) --+--> derived sizes, themselves expressions

A parallel size that a space lacks, or that is inactive in a config, counts as 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np

from autotune.config import ParameterValue
from autotune.errors import BadInput
from autotune.space.column import INACTIVE, KNOWN, Array, Column, choice_array, constant
from autotune.space.expression import Expression

PARALLEL_SIZES = (
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "virtual_pipeline_model_parallel_size",
    "context_parallel_size",
    "expert_model_parallel_size",
)

_MODEL_PARALLEL = (
    "tensor_model_parallel_size * pipeline_model_parallel_size * context_parallel_size"
)
_ACCUMULATION = "global_batch_size // (micro_batch_size * data_parallel_size)"
DERIVED = {
    "model_parallel_size": Expression.parse(_MODEL_PARALLEL),
    "data_parallel_size": Expression.parse("world_size // model_parallel_size"),
    "gradient_accumulation_steps": Expression.parse(_ACCUMULATION),
    "num_micro_batches": Expression.parse(_ACCUMULATION),
}


class Names:
    """The names of one space: its constants, its parameters' choices, the derived sizes."""

    def __init__(
        self,
        constants: Mapping[str, ParameterValue],
        choices: Mapping[str, tuple[ParameterValue, ...]],
    ) -> None:
        self.choices = dict(choices)
        self.constants = {name: v for name, v in constants.items() if name not in choices}
        told = {name for name, value in self.constants.items() if value is not None}
        told |= {*self.choices, *PARALLEL_SIZES}
        self.derived: dict[str, Expression] = {}
        for name, expression in DERIVED.items():
            if name not in self.choices and expression.names <= {*told, *self.derived}:
                self.derived[name] = expression
        self.known = told | {*self.constants, *self.derived}
        self._tables = {name: choice_array([*values]) for name, values in self.choices.items()}
        for name in PARALLEL_SIZES:
            if name in self._tables:
                self._tables[name][-1] = 1
        self._codes = {
            name: {(isinstance(value, bool), value): code for code, value in enumerate(values)}
            for name, values in self.choices.items()
        }

    def parameters_of(self, expression: Expression) -> frozenset[str]:
        """The parameters on which an expression depends, through derived sizes too."""
        found: set[str] = set()
        for name in expression.names:
            if name in self.choices:
                found.add(name)
            elif name in self.derived:
                found |= self.parameters_of(self.derived[name])
        return frozenset(found)

    def code(self, name: str, value: ParameterValue) -> int | None:
        """The code of a parameter's value: -1 for None, None for a value not on offer."""
        return -1 if value is None else self._codes[name].get((isinstance(value, bool), value))

    def encode(self, values: Mapping[str, ParameterValue]) -> dict[str, Array]:
        """One row of codes; BadInput for a value that is not on offer, a missing one is None."""
        row: dict[str, Array] = {}
        for name in self.choices:
            code = self.code(name, values.get(name))
            if code is None:
                raise BadInput(self.not_offered(name, values[name]))
            row[name] = np.asarray(code, dtype=np.int16)
        return row

    def not_offered(self, name: str, value: ParameterValue) -> str:
        """The sentence that says so and lists what is on offer; None: there is no value."""
        what = f"{name} has no value" if value is None else f"{name}={show(value)} is not on offer"
        return f"{what}; there are: {', '.join(map(show, self.choices[name][:40]))}"

    def decode(self, name: str, codes: Array) -> Array:
        """Values of a parameter from its codes; -1 gives the stand-in of an inactive one."""
        return np.asarray(self._tables[name][codes])


def show(value: ParameterValue) -> str:
    """A value as it is written in YAML."""
    return json.dumps(value) if not isinstance(value, str) else value


class Rows(Mapping[str, Column]):
    """Columns of every name over rows of codes, decoded when first asked for.

    With `lenient`, names that the space lacks are inactive everywhere instead of unknown.
    """

    def __init__(self, names: Names, codes: Mapping[str, Array], lenient: bool = False) -> None:
        self._names, self._codes, self._lenient = names, codes, lenient
        self._columns: dict[str, Column] = {}

    def __contains__(self, name: object) -> bool:
        return self._lenient or name in self._names.known

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.known)

    def __len__(self) -> int:
        return len(self._names.known)

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            self._columns[name] = self._column(name)
        return self._columns[name]

    def value(self, name: str) -> ParameterValue:
        """The value where there is a single row; None where it is unknown."""
        column = self[name]
        return None if column.unknown.any() else cast(ParameterValue, column.data.item())

    def _column(self, name: str) -> Column:
        names = self._names
        if name in names.choices:
            codes = self._codes[name]
            data, missing = names.decode(name, codes), np.asarray(codes) < 0
            if name in PARALLEL_SIZES:
                return Column(data, np.asarray(KNOWN), missing)
            return Column(data, np.where(missing, INACTIVE, KNOWN))
        if name in names.derived:
            return names.derived[name].evaluate(self)
        if name in PARALLEL_SIZES:
            return Column(np.asarray(1), np.asarray(KNOWN), np.asarray(True))
        return constant(names.constants.get(name))
