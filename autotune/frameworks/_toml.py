"""Just enough TOML: tables of numbers, booleans, text and lists, written and read back.

Python 3.10 has no TOML reader and no Python has a writer. Every value written here is JSON as
well as TOML, which is what makes reading our own text back a one-liner.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def write_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """One ``[table]`` (dots nest) after the other, in the order given; None is left out."""
    lines: list[str] = []
    for table, values in tables.items():
        lines.append(f"[{table}]")
        lines += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}"
            for key, value in values.items()
            if value is not None
        ]
        lines.append("")
    return "\n".join(lines)


def read_toml(text: str) -> dict[str, dict[str, Any]]:
    """What `write_toml` wrote, and nothing more of the language; ValueError for anything else."""
    tables: dict[str, dict[str, Any]] = {}
    current: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("["):
            current = tables.setdefault(line.strip("[]"), {})
        elif line:
            key, _, value = line.partition(" = ")
            current[key] = json.loads(value)
    return tables
