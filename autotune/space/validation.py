"""Validates documents against pydantic models; says what is wrong in words and with its place."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from autotune.errors import BadInput
from autotune.space.document import Document, KeyPath

MAX_ERRORS = 20
Model = TypeVar("Model", bound=BaseModel)
_WORDING = {
    "Input should be": "should be",
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid array": "a list",
    "a valid dictionary": "a mapping",
    "an object": "a mapping",
}


def validated(model: type[Model], document: Document) -> Model:
    """Strict validation; BadInput lists each problem with its place."""
    try:
        return model.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        found: dict[KeyPath, list[str]] = {}
        for item in error.errors(include_url=False)[: 10 * MAX_ERRORS]:
            key, message = _explain(model, document, dict(item))
            found.setdefault(key, []).append(message)
        # Of a union's alternatives the one that got furthest tells what is wrong.
        deepest = [
            key for key in found if not any(k != key and k[: len(key)] == key for k in found)
        ]
        raise told_together(
            [str(document.error(key, _joined(found[key]))) for key in deepest]
        ) from None


def _explain(
    model: type[BaseModel], document: Document, item: Mapping[str, Any]
) -> tuple[KeyPath, str]:
    """Key path and sentence of one pydantic error."""
    key = _written(document.data, item["loc"])
    message = str(item["msg"])
    for theirs, ours in _WORDING.items():
        message = message.replace(theirs, ours)
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, key[:-1])
        close = difflib.get_close_matches(str(key[-1]), known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return key, f"unknown key{hint}; known keys: {', '.join(known)}"
    if item["type"] == "missing":
        return (*key, str(item["loc"][-1])), "is missing"
    if key == ("command",):
        message = "should be a list of program and arguments; no shell is involved"
    elif isinstance(item["input"], str | int | float | bool | None):
        message += f", not {json.dumps(item['input'])[:80]}"
    return key, message


def _joined(messages: list[str]) -> str:
    """One sentence of the alternatives that a union offers."""
    if len(set(messages)) == 1:
        return messages[0]
    parts = [message.partition(", not ") for message in messages]
    kinds = dict.fromkeys(head.removeprefix("should be ") for head, _, _ in parts)
    return f"should be {' or '.join(kinds)}, not {parts[0][2] or 'this'}"


def _written(data: Any, location: Iterable[str | int]) -> KeyPath:
    """The part of a pydantic location that is really in the data (unions add parts of theirs)."""
    key: list[str | int] = []
    for part in location:
        inside = isinstance(data, dict) and part in data
        if inside or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]
            key.append(part)
    return tuple(key)


def _known_keys(model: type[BaseModel], key: KeyPath) -> list[str]:
    """The fields of the model that sits at a key path."""
    candidates: list[Any] = [model]
    for part in key:
        fields = [c.model_fields[part].annotation for c in candidates if part in _fields(c)]
        inner = [a for c in candidates if not _fields(c) for a in get_args(c)]
        candidates = [leaf for annotation in fields or inner for leaf in _unwrap(annotation)]
    return sorted({name for c in candidates for name in _fields(c)})


def _fields(candidate: Any) -> list[str]:
    if isinstance(candidate, type) and issubclass(candidate, BaseModel):
        return list(candidate.model_fields)
    return []


def _unwrap(annotation: Any) -> Iterator[Any]:
    """The alternatives of a union; containers stay whole."""
    if get_origin(annotation) in (Union, UnionType):
        for inner in get_args(annotation):
            yield from _unwrap(inner)
    else:
        yield annotation


def told_together(lines: list[str]) -> BadInput:
    """One error of many lines; beyond MAX_ERRORS only their number."""
    more = [f"... and {len(lines) - MAX_ERRORS} more"] if len(lines) > MAX_ERRORS else []
    return BadInput("\n".join([*lines[:MAX_ERRORS], *more]))
