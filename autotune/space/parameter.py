"""One searched parameter: where its values come from, and when it exists at all."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from autotune.config import ParameterValue
from autotune.errors import BadInput
from autotune.space.expression import Expression

MAX_CHOICES = 10_000

Bound = Annotated[
    int | str, Field(description="an integer or an expression over the space's sizes")
]
DOMAINS = ("values", "divisors_of", "powers_of_two", "range")


class Parameter(BaseModel):
    """The values of one parameter by exactly one of `values`, `divisors_of`, `powers_of_two`,
    `range`; with `when`, it exists only in configs where that condition is true.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    values: tuple[bool | int | float | str, ...] | None = Field(
        default=None, description="the values themselves: numbers, text, true, false"
    )
    divisors_of: Bound | None = Field(
        default=None, description="all divisors of a size, such as `world_size`"
    )
    powers_of_two: tuple[Bound, Bound] | None = Field(
        default=None, description="[from, to]: the powers of two between them, both included"
    )
    range: tuple[int | float, ...] | None = Field(
        default=None, description="[from, to] or [from, to, step], `to` included"
    )
    min: Bound | None = Field(default=None, description="drop divisors below this")
    max: Bound | None = Field(default=None, description="drop divisors above this")
    when: str | None = Field(
        default=None, description="expression; the parameter exists only where it is true"
    )
    description: str = Field(default="", description="for people")

    def choices(self, sizes: dict[str, ParameterValue]) -> tuple[ParameterValue, ...]:
        """The values on offer, in order; `sizes` are the names that expressions may use.

        BadInput when not exactly one kind of domain is given, or when it is empty, too long or
        holds a value twice.
        """
        given = [kind for kind in DOMAINS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise BadInput(f"needs exactly one of {', '.join(DOMAINS)}; it has {found}")
        if (self.min, self.max) != (None, None) and self.divisors_of is None:
            raise BadInput("min and max belong to divisors_of")
        offered = self._domain(sizes)
        if not offered:
            raise BadInput(f"{given[0]} offers no value at all")
        if len(offered) > MAX_CHOICES:
            raise BadInput(f"{given[0]} offers more than {MAX_CHOICES} values")
        if len(set(offered)) < len(offered):
            twice = next(value for value in offered if offered.count(value) > 1)
            raise BadInput(f"{given[0]} holds {twice!r} twice (1, 1.0 and true count as the same)")
        return offered

    def _domain(self, sizes: dict[str, ParameterValue]) -> tuple[ParameterValue, ...]:
        if self.values is not None:
            return self.values
        if self.range is not None:
            return _range(self.range)
        if self.powers_of_two is not None:
            low, high = (_size(bound, sizes, "powers_of_two") for bound in self.powers_of_two)
            return tuple(1 << k for k in range(62) if low <= 1 << k <= high)
        assert self.divisors_of is not None
        number = _size(self.divisors_of, sizes, "divisors_of")
        low = 1 if self.min is None else _size(self.min, sizes, "min")
        high = number if self.max is None else _size(self.max, sizes, "max")
        return tuple(value for value in divisors(number) if low <= value <= high)


def divisors(number: int) -> list[int]:
    """The divisors of a positive integer (up to 10**12), ascending."""
    if not 1 <= number <= 10**12:
        raise BadInput(f"divisors_of needs a number from 1 to 10**12, not {number}")
    small = [k for k in range(1, int(number**0.5) + 1) if number % k == 0]
    return sorted({*small, *(number // k for k in small)})


def _size(bound: int | str, sizes: dict[str, ParameterValue], key: str) -> int:
    value = Expression.parse(bound).value(sizes) if isinstance(bound, str) else bound
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadInput(f"{key}: {bound!r} gives {value!r} here, not an integer")
    return value


def _range(bounds: tuple[int | float, ...]) -> tuple[ParameterValue, ...]:
    if len(bounds) not in (2, 3):
        raise BadInput("range is [from, to] or [from, to, step]")
    start, stop = bounds[:2]
    step = bounds[2] if len(bounds) == 3 else 1
    if step <= 0 or stop < start:
        raise BadInput(f"range {list(bounds)} is empty; `to` lies above `from`, step above 0")
    count = int((stop - start) / step * (1 + 1e-12)) + 1
    if count > MAX_CHOICES:
        raise BadInput(f"range {list(bounds)} offers more than {MAX_CHOICES} values")
    points = (start + k * step for k in range(count))
    return tuple(p if isinstance(p, int) else float(f"{p:.12g}") for p in points)
