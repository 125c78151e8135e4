"""Finds what users copy and edit: search spaces, runners, analysis programs.

Looked for by path, never imported by name: first in the working directory, then in each
folder of ``$AUTOTUNE_PATH``, then in what ships. A checkout is its own shipment; an installed
wheel carries a copy inside the package.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import autotune

KINDS = ("search_spaces", "runners", "analysis")


@functools.cache
def shipped_root() -> Path:
    """The folder that holds the shipped content: the checkout, else the wheel's own copy."""
    package = Path(autotune.__file__).resolve().parent
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "search_spaces").is_dir():
        return checkout
    return package / "_content"


def content_folders(kind: str) -> list[Path]:
    """Existing folders of one kind, the user's before the shipped; `kind` is one of KINDS."""
    roots = [Path.cwd()]
    searched = os.environ.get("AUTOTUNE_PATH", "").split(os.pathsep)
    roots += [Path(entry) for entry in searched if entry]
    roots.append(shipped_root())
    folders: list[Path] = []
    for root in roots:
        folder = (root / kind).resolve()
        if folder.is_dir() and folder not in folders:
            folders.append(folder)
    return folders


def find_content(kind: str, relative: str) -> Path | None:
    """The first file or folder ``relative`` of a kind; None where there is none.

    A ``relative`` that would leave its folder (``..``, absolute) is never found.
    """
    for folder in content_folders(kind):
        candidate = (folder / relative).resolve()
        if candidate.is_relative_to(folder) and candidate.exists():
            return candidate
    return None


def list_content(kind: str, pattern: str) -> Iterator[Path]:
    """All entries of a kind that match a glob, the user's shadowing shipped ones by name."""
    seen: set[str] = set()
    for folder in content_folders(kind):
        for path in sorted(folder.glob(pattern)):
            name = path.relative_to(folder).as_posix()
            if name not in seen:
                seen.add(name)
                yield path
