"""`--set key=value`: one key of a space changed before validation, as if written in the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from autotune.errors import BadInput
from autotune.space.contract import CONTRACT_KEYS
from autotune.space.document import Document, parse_document
from autotune.space.parameter import DOMAINS


def apply_override(document: Document, override: str) -> None:
    """Set one dotted key; the value is YAML. Keys are judged by the validation that follows."""
    source = f"--set {override}"
    dotted, sign, text = override.partition("=")
    parts = dotted.strip().split(".")
    keys: list[str | int] = [int(p) if re.fullmatch("[0-9]{1,6}", p) else p for p in parts]
    if not sign or "" in keys:
        raise BadInput(f"{source}: has to be key=value, such as trial.steps=20")
    value = parse_document(text, source).data
    target = document.data
    _refuse_new_parameter(document, keys, source)
    for depth, key in enumerate(keys[:-1]):
        if isinstance(target, dict):
            target = target.setdefault(str(key), {})
        elif isinstance(target, list) and isinstance(key, int) and key < len(target):
            target = target[key]
        else:
            raise BadInput(f"{source}: {'.'.join(map(str, keys[:depth]))} has no key {key!r}")
    last = keys[-1]
    if isinstance(target, dict):
        _drop_alternatives(target, keys)
        target[str(last)] = value
    elif isinstance(target, list) and isinstance(last, int) and last < len(target):
        target[last] = value
    else:
        raise BadInput(f"{source}: {'.'.join(map(str, keys[:-1]))} has no key {last!r}")
    for depth in range(1, len(keys) + 1):
        document.places.setdefault(tuple(keys[:depth]), source)
    document.places[tuple(keys)] = source


def _refuse_new_parameter(document: Document, keys: Sequence[str | int], source: str) -> None:
    """A misspelt parameter must not become a new one; contract keys may be opted in."""
    known = document.data.get("parameters")
    if keys[0] != "parameters" or len(keys) < 3 or not isinstance(known, dict):
        return
    if keys[1] not in known and keys[1] not in CONTRACT_KEYS:
        raise BadInput.unknown("parameter", str(keys[1]), known, source)


def _drop_alternatives(target: dict[str, Any], keys: Sequence[str | int]) -> None:
    """A new domain replaces the old one, a new GPU the hardware that stood there."""
    if len(keys) == 3 and keys[0] == "parameters" and keys[2] in DOMAINS:
        for kind in (*DOMAINS, "min", "max"):
            target.pop(kind, None)
    if list(keys) == ["cluster", "gpu"]:
        target.pop("hardware", None)
