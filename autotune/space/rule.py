"""A rule that a config has to meet, with the reason that is shown when it does not."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Rule:
    """`expression` has to be met (see `Expression.met`); `origin` tells whose rule it is:
    "space", "built-in", "conditional" or the name of a framework.

    In a framework's rule a name that the space does not have counts as inactive, so one list of
    rules serves every space.
    """

    expression: str
    reason: str = ""
    origin: str = "space"

    def under(self, condition: str) -> Rule:
        """The same rule, asked only of configs where `condition` is true."""
        return replace(self, expression=f"not ({condition}) or ({self.expression})")

    def __str__(self) -> str:
        return f"{self.expression} ({self.origin}{': ' + self.reason if self.reason else ''})"
