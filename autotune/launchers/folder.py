"""A trial's folder as a node sees it: shared, perhaps slow, and full at the worst moment.

Standard library only, Python 3.8 or later: it lies beside ``supervisor.py`` on every node.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from autotune.launchers.host import read_object, write_whole
else:
    from host import read_object, write_whole
if TYPE_CHECKING:
    from typing import Any

EXIT_TRIES = 30


class TrialFolder:
    """What the parts of one gang tell each other, and ask, in files."""

    def __init__(self, path: str, token: str) -> None:
        self.path = path
        self.token = token
        self.logs = os.path.join(path, "logs")

    def names(self) -> list[str]:
        """The files in it; none where it is gone or cannot be read now."""
        try:
            return os.listdir(self.path)
        except OSError:
            return []

    def cancelled(self) -> bool:
        """Whether the gang was asked to end."""
        return os.path.exists(os.path.join(self.path, "cancel"))

    def request(self) -> dict[str, Any]:
        """How it was asked to end."""
        return read_object(os.path.join(self.path, "cancel")) or {}

    def others_failed(self, names: list[str]) -> bool:
        """Whether another part of the gang has told that it failed."""
        told = [name for name in names if name.startswith("exit.")]
        records = [read_object(os.path.join(self.path, name)) for name in told]
        ours = [record for record in records if record and record["token"] == self.token]
        return any(record["failed"] for record in ours)

    def identify(self, index: int, identity: dict[str, Any]) -> None:
        """Tell who runs part ``index``."""
        write_whole(os.path.join(self.path, f"supervisor.{index}.json"), identity, False)

    def tell_exit(self, index: int, record: dict[str, Any]) -> bool:
        """Write a part's exit record; a full disk gets half a minute to recover."""
        path = os.path.join(self.path, f"exit.{index}.json")
        for attempt in range(EXIT_TRIES):
            try:
                write_whole(path, record)
                return True
            except OSError as error:
                print(f"autotune: {path}: {error}", file=sys.stderr, flush=True)
                time.sleep(min(1.0, 0.1 * (attempt + 1)))
        return False
