"""Reads YAML that a stranger may have written, and remembers where every key stood.

PyYAML only splits the text into events; the tree is built here. So nothing is ever constructed
from a tag, aliases cannot blow up, duplicate keys are errors, and each value can be traced back
to its line. Plain scalars follow YAML 1.2: `on`, `no` and `1:30` are text, `1e-5` is a number.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autotune.errors import BadInput

KeyPath = tuple[str | int, ...]

MAX_BYTES = 1 << 20
MAX_NODES = 100_000
MAX_DEPTH = 32
MAX_INTEGER = 1 << 62

_EVENT_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)")
_WORDS = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and the place of each key path."""

    source: str
    data: Any
    places: dict[KeyPath, str] = field(default_factory=dict)

    def where(self, path: KeyPath) -> str:
        """`file:line:column` of a key path, or of its nearest parent that was written down."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.source

    def error(self, path: KeyPath, message: str) -> BadInput:
        """A `BadInput` of the form `file:line:column: key.path: message`."""
        return BadInput(": ".join((self.where(path), *_dotted(path), message)))


def _dotted(path: KeyPath) -> tuple[str, ...]:
    """The key path as one dotted name; nothing for the top of the document."""
    return (".".join(str(part) for part in path),) if path else ()


def read_document(path: Path) -> Document:
    """The YAML file at `path`; BadInput when it cannot be read or is not what we accept."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        text = raw.decode("utf-8-sig") if len(raw) <= MAX_BYTES else " " * len(raw)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text (byte {error.start})") from error
    return parse_document(text, str(path))


def parse_document(text: str, source: str) -> Document:
    """One YAML document from text; `source` is named in errors (BadInput)."""
    if len(text) > MAX_BYTES:
        raise BadInput(f"{source}: larger than {MAX_BYTES} bytes; no space needs that")
    try:
        return _Composer(text, source).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise BadInput(f"{place}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise BadInput(f"{source}: not valid YAML: {error}") from error


class _Composer:
    """Builds plain data from parser events, with the caps of this module."""

    def __init__(self, text: str, source: str) -> None:
        self.events: Iterator[Any] = yaml.parse(text, Loader=_EVENT_LOADER)
        self.result = Document(source, None)
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = 0

    def document(self) -> Document:
        event = next(self.events)
        while isinstance(event, (yaml.StreamStartEvent, yaml.DocumentStartEvent)):
            event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            self.result.data = self._node(event, ())
            next(self.events)
            if not isinstance(extra := next(self.events), yaml.StreamEndEvent):
                raise self._refuse(extra, (), "a second document; one file holds one")
        return self.result

    def _place(self, event: Any) -> str:
        mark = event.start_mark
        return f"{self.result.source}:{mark.line + 1}:{mark.column + 1}"

    def _refuse(self, event: Any, path: KeyPath, message: str) -> BadInput:
        return BadInput(": ".join((self._place(event), *_dotted(path), message)))

    def _count(self, event: Any, path: KeyPath, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise self._refuse(
                event, path, f"more than {MAX_NODES} values once aliases are expanded"
            )

    def _node(self, event: Any, path: KeyPath) -> Any:
        self.result.places.setdefault(path, self._place(event))
        if len(path) > MAX_DEPTH:
            raise self._refuse(event, path[:3], f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self._refuse(
                    event, path, f"alias *{event.anchor} has no finished anchor before it"
                )
            value, nodes = self.anchors[event.anchor]
            self._count(event, path, nodes)
            return copy.deepcopy(value)
        if event.tag is not None:
            raise self._refuse(
                event, path, f"tag {event.tag!r} is not accepted; quote text instead"
            )
        before = self.nodes
        self._count(event, path, 1)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, self.nodes - before)
        return value

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, path)
            if key in mapping:
                raise self._refuse(event, path, f"key {key!r} stands twice in one mapping")
            inner = (*path, key)
            self.result.places[inner] = self._place(event)
            mapping[key] = self._node(next(self.events), inner)
        return mapping

    def _key(self, event: Any, path: KeyPath) -> str:
        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
            raise self._refuse(event, path, "a key has to be plain text")
        key = self._scalar(event, path)
        if key == "<<" and not event.style:
            raise self._refuse(event, path, "merge keys (<<) are not accepted; write the keys out")
        if not isinstance(key, str):
            raise self._refuse(event, path, f"key {event.value!r} is not text; put it in quotes")
        return key

    def _scalar(self, event: Any, path: KeyPath) -> Any:
        if "\0" in event.value or any("\ud800" <= c <= "\udfff" for c in event.value):
            raise self._refuse(event, path, "text holds NUL or half a surrogate pair")
        try:
            return event.value if event.style else plain_scalar(event.value)
        except BadInput as error:
            raise self._refuse(event, path, str(error)) from None


def plain_scalar(text: str) -> str | int | float | bool | None:
    """What unquoted text means: YAML 1.2's core schema, and `_` between digits as in Python.

    Numbers with leading zeros stay text. BadInput for numbers that nothing could work with.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        number = int(text, 0) if len(text) < 30 else MAX_INTEGER
        if abs(number) >= MAX_INTEGER:
            raise BadInput(f"integer {text[:30]} is too large; quote it if it is text")
        return number
    if _FLOAT.fullmatch(text):
        value = float(text)
        if not math.isfinite(value):
            raise BadInput(f"number {text[:30]} is too large")
        return value
    if _NOT_FINITE.fullmatch(text):
        raise BadInput(f"{text} is not a number that can be used here")
    return text


def dump_document(data: Any) -> str:
    """YAML that `parse_document` reads back to equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Quotes text that our reading of plain scalars would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out; aliases serve nobody who reads the file."""
        return True


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    try:
        misread = not isinstance(plain_scalar(text), str)
    except BadInput:
        misread = True
    if misread or not text.replace("\n", "").isprintable():
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text_node)
