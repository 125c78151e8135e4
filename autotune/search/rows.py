"""A finite set of configs without a search space file: a script's own choices, a measured table.

Has what the search asks of a legal set, so the same samplers run over either.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.config import Config, ParameterValue
from autotune.errors import BadInput

MOST_POINTS = 10_000_000


class FiniteRows:
    """Configs listed one by one; a value of None says that the parameter does not exist there."""

    def __init__(self, rows: Iterable[Mapping[str, ParameterValue]]) -> None:
        listed = list(rows)
        if not listed:
            raise BadInput("no config is left: every combination breaks a rule. Loosen one.")
        self.names = tuple(listed[0])
        self.choices = {
            name: tuple(_ordered({row[name] for row in listed if row[name] is not None}))
            for name in self.names
        }
        positions = {
            name: {value: k for k, value in enumerate(values)}
            for name, values in self.choices.items()
        }
        self.codes: NDArray[np.int16] = np.array(
            [[positions[n].get(row[n], -1) for n in self.names] for row in listed], dtype=np.int16
        )
        self._positions = positions
        self._index = {row.tobytes(): k for k, row in reversed(list(enumerate(self.codes)))}

    @classmethod
    def product(
        cls,
        choices: Mapping[str, Sequence[ParameterValue]],
        legal: Callable[[Mapping[str, ParameterValue]], bool] | None = None,
    ) -> FiniteRows:
        """All combinations of choices for which ``legal`` holds, in the order of the choices.

        BadInput beyond ten million combinations.
        """
        points = int(np.prod([len(values) for values in choices.values()], dtype=object))
        if points > MOST_POINTS:
            raise BadInput(f"{points} combinations are more than {MOST_POINTS}; drop some values.")
        combinations = (
            dict(zip(choices, values, strict=True))
            for values in itertools.product(*choices.values())
        )
        return cls(row for row in combinations if legal is None or legal(row))

    def __len__(self) -> int:
        return len(self.codes)

    def column(self, name: str) -> NDArray[Any]:
        """One value for each config (n,), None where the parameter does not exist."""
        values = np.array([*self.choices[name], None], dtype=object)
        return np.asarray(values[self.codes[:, self.names.index(name)]])

    def config(self, index: int) -> Config:
        """The config at an index."""
        codes = self.codes[index].tolist()
        return Config(
            {
                name: None if code < 0 else self.choices[name][code]
                for name, code in zip(self.names, codes, strict=True)
            }
        )

    def find(self, values: Mapping[str, ParameterValue]) -> int | None:
        """The index of a config, None where it is not listed; inactive ones may be left out."""
        codes = [self._positions[name].get(values.get(name), -1) for name in self.names]
        unknown = any(
            code < 0 and values.get(name) is not None
            for name, code in zip(self.names, codes, strict=True)
        )
        return None if unknown else self._index.get(np.array(codes, dtype=np.int16).tobytes())


def _ordered(values: Iterable[ParameterValue]) -> list[ParameterValue]:
    """Numbers ascending before text; equal kinds compare by value."""

    def key(value: ParameterValue) -> tuple[bool, float, str]:
        is_text = isinstance(value, str)
        return is_text, 0.0 if is_text or value is None else float(value), str(value)

    return sorted(values, key=key)
