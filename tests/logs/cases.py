"""Our own labelled log excerpts: ``@@ name {expect}`` and the lines that follow.

``ESC`` stands for an escape character and a literal ``\\r`` for a carriage return, so that the
fixtures stay readable text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Case:
    """One excerpt and what a careful reader takes from it."""

    name: str
    expect: dict[str, Any]
    text: bytes


def load_cases() -> list[Case]:
    """Every case of every fixture file, named ``file/case``."""
    cases = []
    for path in sorted(FIXTURES.glob("*.txt")):
        for block in path.read_text(encoding="utf-8").split("@@ ")[1:]:
            head, _, body = block.partition("\n")
            name, _, expect = head.partition(" ")
            text = body.replace("ESC[", "\x1b[").replace("\\r", "\r")
            cases.append(Case(f"{path.stem}/{name}", json.loads(expect), text.encode()))
    return cases
