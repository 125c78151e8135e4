"""Command blocks of README and docs: fenced ``bash``, with what they need said in a comment.

    <!-- needs: a cluster -->
    ```bash
    salloc --nodes=2 ...
    ```

A block without such a comment is run by the tests as it stands.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = {"a GPU", "a cluster", "a checkout of Megatron-LM", "minutes"}
BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>[^>]*?) -->\n)?^```bash\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its page, its line, its commands, what it needs."""

    page: str
    line: int
    commands: tuple[str, ...]
    needs: str | None

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """The command blocks of a page, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("body"))
        found.append(
            Block(str(path.relative_to(ROOT)), line + 1, commands(match["body"]), match["needs"])
        )
    return found


def commands(body: str) -> tuple[str, ...]:
    """Lines of shell, continued ones joined, comments left to the shell."""
    joined = body.replace("\\\n", " ")
    return tuple(line.strip() for line in joined.splitlines() if line.strip())


def autotune_calls(command: str) -> list[list[str]]:
    """The arguments of every `autotune ...` in a command, also inside a quoted one."""
    words = shlex.split(command, comments=True)
    calls = []
    for at, word in enumerate(words):
        if word == "autotune":
            rest = words[at + 1 :]
            ends = [i for i, item in enumerate(rest) if item in ("&&", "|", ">", ";")]
            calls.append(rest[: ends[0]] if ends else rest)
        elif word.startswith("autotune "):
            calls += autotune_calls(word)
    return calls
