"""Fields of the classes in a source tree, read without importing it: for what cannot be imported.

What a class inherits is followed by name through all the trees.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path


class Classes:
    """Every class below some folders: its annotated fields, its bases, who inherits from it."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.fields: dict[str, dict[str, str]] = {}
        self.bases: dict[str, set[str]] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*.py")):
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.ClassDef):
                        self._add(node)

    def _add(self, node: ast.ClassDef) -> None:
        own = self.fields.setdefault(node.name, {})
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                own[item.target.id] = ast.unparse(item.annotation)
        bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        self.bases.setdefault(node.name, set()).update(bases)

    def annotations(self, name: str, field: str) -> Iterator[str]:
        """How a class and what it inherits from annotate a field."""
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one not in seen and one in self.fields:
                seen.add(one)
                waiting += self.bases[one]
                if field in self.fields[one]:
                    yield self.fields[one][field]

    def with_heirs(self, names: Iterable[str]) -> set[str]:
        """The classes, and all that inherit from one of them."""
        found = set(names) & set(self.fields)
        while more := {name for name, bases in self.bases.items() if bases & found} - found:
            found |= more
        return found

    def knows(self, root: str, path: str) -> bool:
        """Whether a dotted path names a field, starting at the class ``root``."""
        places = {root}
        for name in path.split("."):
            told = [text for place in places for text in self.annotations(place, name)]
            if not told:
                return False
            places = self.with_heirs(re.findall(r"\w+", " ".join(told)))
        return True
