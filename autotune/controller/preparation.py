"""What a gang does before it can train: a build of minutes is neither a hang nor training.

A rank that compiles or fetches something for long writes what it is into
``$AUTOTUNE_TRIAL_DIR/preparing.RANK`` and removes that file when it is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LONGEST_TEXT = 200


@dataclass
class Preparation:
    """The notes in one trial's folder; times in seconds of the monotonic clock."""

    folder: Path
    what: str = ""
    """What is or was prepared, for a person; empty until something is."""
    seconds: float = 0.0
    _since: float | None = None

    def goes_on(self, now: float) -> bool:
        """Whether some rank prepares something at this moment."""
        texts = [_text(note) for note in sorted(self.folder.glob("preparing.*"))]
        self.what = next(filter(None, texts), self.what)
        self.seconds += now - self._since if self._since is not None else 0.0
        self._since = now if texts else None
        return bool(texts)


def _text(note: Path) -> str:
    try:
        with note.open(encoding="utf-8", errors="replace") as stream:
            return " ".join(stream.read(LONGEST_TEXT).split())
    except OSError:
        return ""
