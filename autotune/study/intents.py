"""What a controller means to do with a trial, written before it does it.

    chosen --> launching(token) --> running(handle) --> ended

A controller that dies leaves the intent; the next one knows from it whether to launch, to
look for a gang by its token, to adopt one by its handle, or to tell a finished one.
"""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

from autotune.trial import Handle

IntentState = Literal["chosen", "launching", "running", "ended"]


@dataclass(frozen=True)
class Intent:
    """The row of one trial's attempt; ``epoch`` is that of the lease it was written under."""

    state: IntentState = "chosen"
    attempt: int = 1
    token: str = ""
    handle: Handle = field(default_factory=dict)
    epoch: int = 0
    interrupted: int = 0
    infra_retries: int = 0
    doubted: int = 0

    @classmethod
    def from_json(cls, data: Any) -> Intent:
        """An intent from storage; a fresh one when the row is missing or damaged."""
        if not isinstance(data, dict) or data.get("state") not in (
            "chosen",
            "launching",
            "running",
            "ended",
        ):
            return cls()
        names = {item.name for item in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in names})

    def again(self, **counts: int) -> Intent:
        """The intent of the trial's next attempt, with the counts that have changed."""
        return dataclasses.replace(
            self, state="chosen", attempt=self.attempt + 1, token="", handle={}, **counts
        )

    def to_json(self) -> dict[str, Any]:
        """The row."""
        return dataclasses.asdict(self)


def new_token() -> str:
    """A fresh token that every process of a gang carries in its environment."""
    return f"at-{secrets.token_hex(12)}"
