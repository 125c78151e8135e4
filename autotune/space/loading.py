"""From a name or a file to a `SearchSpace`, with the place of whatever is wrong.

Looks up what a space refers to: `model` in search_spaces/models/, `cluster.gpu` in
search_spaces/hardware/, templates beside the space file.
"""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from autotune.content import find_content, list_content
from autotune.errors import BadInput
from autotune.space.checks import problems
from autotune.space.cluster import Hardware
from autotune.space.contract import CONTRACT_KEYS
from autotune.space.document import (
    MAX_BYTES,
    Document,
    KeyPath,
    parse_document,
    read_document,
)
from autotune.space.hf_config import shape_from_hf
from autotune.space.model import ModelShape
from autotune.space.parameter import DOMAINS
from autotune.space.search_space import SearchSpace

MAX_ERRORS = 20
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
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Result = TypeVar("Result")
Parsed = TypeVar("Parsed", bound=BaseModel)


def list_spaces() -> dict[str, Path]:
    """Names of all spaces that can be found, with their files."""
    return {path.stem: path for path in list_content("search_spaces", "*.yaml")}


def load_space(name_or_path: str | Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """The space of a name or a file, with `overrides` such as "trial.steps=20" applied.

    BadInput with `file:line:column: key: what` for everything that is wrong.
    """
    path = _space_file(name_or_path)
    return space_from(read_document(path), path.resolve().parent, overrides, path)


def parse_space(text: str, source: str = "space", overrides: Sequence[str] = ()) -> SearchSpace:
    """A space from text; relative paths in it start at the working directory."""
    return space_from(parse_document(text, source), Path.cwd(), overrides)


def space_from(
    document: Document, folder: Path, overrides: Sequence[str] = (), path: Path | None = None
) -> SearchSpace:
    """Override, resolve, validate and check a document; `folder` is where its paths start."""
    if not isinstance(document.data, dict):
        raise document.error((), "a space is a mapping of keys such as name, framework, parameters")
    document = Document(document.source, copy.deepcopy(document.data), dict(document.places))
    for override in overrides:
        apply_override(document, override)
    _resolve_references(document, folder)
    _scalars_to_text(document.data)
    space = validated(SearchSpace, document)
    space._source = path
    found = list(problems(space))
    if found:
        raise _listed([str(document.error(key, message)) for key, message in found])
    return space


def load_model(name_or_path: str, folder: Path | None = None) -> ModelShape:
    """A model by its name in search_spaces/models/, or from a Hugging Face config.json."""
    path = (folder or Path.cwd()) / name_or_path
    if name_or_path.endswith(".json") or _is_file(path / "config.json"):
        return shape_from_hf(path if name_or_path.endswith(".json") else path / "config.json")
    return _named(ModelShape, "model", "models", name_or_path)


def load_hardware(name: str) -> Hardware:
    """A GPU with its host by its name in search_spaces/hardware/."""
    return _named(Hardware, "GPU", "hardware", name)


def validated(model: type[Parsed], document: Document) -> Parsed:
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
        raise _listed([str(document.error(key, _joined(found[key]))) for key in deepest]) from None


def apply_override(document: Document, override: str) -> None:
    """Set one dotted key; the value is YAML. Keys are judged by the validation that follows."""
    source = f"--set {override}"
    dotted, sign, text = override.partition("=")
    keys: list[str | int] = [int(p) if p.isdigit() else p for p in dotted.strip().split(".")]
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


def _space_file(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        path = Path(name_or_path)
        if not _is_file(path):
            raise BadInput(f"{text}: no such space file; `autotune spaces` lists the known names")
        return path
    found = find_content("search_spaces", f"{text}.yaml") if _NAME.fullmatch(text) else None
    if found is None or not _is_file(found):
        raise BadInput.unknown("space", text, list_spaces())
    return found


def _is_file(path: Path) -> bool:
    """Whether it is a plain file; names that no file can have are none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _named(model: type[Parsed], kind: str, folder: str, name: str) -> Parsed:
    path = find_content("search_spaces", f"{folder}/{name}.yaml") if _NAME.fullmatch(name) else None
    if path is None or not _is_file(path):
        known = [p.stem for p in list_content("search_spaces", f"{folder}/*.yaml")]
        raise BadInput.unknown(kind, name, known)
    document = read_document(path)
    if isinstance(document.data, dict):
        document.data.setdefault("name", name)
    return validated(model, document)


def _resolve_references(document: Document, folder: Path) -> None:
    data = document.data
    if isinstance(data.get("model"), str):
        shape = _at(document, ("model",), load_model, data["model"], folder)
        data["model"] = _plain(shape)
    cluster = data.get("cluster")
    if isinstance(cluster, dict) and cluster.get("gpu") and "hardware" not in cluster:
        hardware = _at(document, ("cluster", "gpu"), load_hardware, str(cluster["gpu"]))
        cluster["hardware"] = _plain(hardware)
    if isinstance(data.get("cwd"), str):
        data["cwd"] = str((folder / Path(data["cwd"]).expanduser()).resolve())
    files = data.get("files")
    for name, content in files.items() if isinstance(files, dict) else ():
        if isinstance(content, dict) and isinstance(content.get("template"), str):
            path = folder / content["template"]
            files[name] = _at(document, ("files", name, "template"), _template, path)


def _at(document: Document, key: KeyPath, function: Callable[..., Result], *args: Any) -> Result:
    """Call; a BadInput is told at the key that asked for it."""
    try:
        return function(*args)
    except BadInput as error:
        raise document.error(key, str(error)) from None


def _template(path: Path) -> str:
    if not _is_file(path):
        raise BadInput(f"template {path} is not a file")
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"template {path} cannot be read: {error}") from None
    if len(raw) > MAX_BYTES:
        raise BadInput(f"template {path} is larger than {MAX_BYTES} bytes")
    return text


def _plain(model: BaseModel) -> Any:
    return model.model_dump(mode="json", exclude_defaults=True)


def _scalars_to_text(data: dict[str, Any]) -> None:
    """Numbers and booleans in `command` and `env` become text as they are written in YAML."""
    command, env = data.get("command"), data.get("env")
    if isinstance(command, list):
        data["command"] = [_text(item) for item in command]
    if isinstance(env, dict):
        data["env"] = {name: _text(value) for name, value in env.items()}


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (bool, int, float)) else value


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


def _listed(lines: list[str]) -> BadInput:
    more = [f"... and {len(lines) - MAX_ERRORS} more"] if len(lines) > MAX_ERRORS else []
    return BadInput("\n".join([*lines[:MAX_ERRORS], *more]))
