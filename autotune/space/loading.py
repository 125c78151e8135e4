"""From a name or a file to a `SearchSpace`, with the place of whatever is wrong.

Looks up what a space refers to: `model` in search_spaces/models/, `cluster.gpu` in
search_spaces/hardware/, templates beside the space file.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from autotune.content import find_content, list_content
from autotune.errors import BadInput
from autotune.space.checks import problems
from autotune.space.cluster import Hardware
from autotune.space.document import (
    MAX_BYTES,
    Document,
    KeyPath,
    parse_document,
    read_document,
)
from autotune.space.hf_config import shape_from_hf
from autotune.space.model import ModelShape
from autotune.space.overrides import apply_override
from autotune.space.search_space import SearchSpace
from autotune.space.validation import Model, told_together, validated

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Result = TypeVar("Result")


def list_spaces() -> dict[str, Path]:
    """Names of all spaces that can be found, with their files."""
    return {path.stem: path for path in list_content("search_spaces", "*.yaml")}


def load_space(name_or_path: str | Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """The space of a name or a file, with `overrides` such as "trial.steps=20" applied.

    BadInput with `file:line:column: key: what` for everything that is wrong.
    """
    path = _space_file(name_or_path)
    return space_from(read_document(path), path.resolve().parent, overrides, path)


def read_keys(name_or_path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The keys of a space as its file and `overrides` say them, not validated."""
    document = _overridden(read_document(_space_file(name_or_path)), overrides)
    keys: dict[str, Any] = document.data
    return keys


def parse_space(text: str, source: str = "space", overrides: Sequence[str] = ()) -> SearchSpace:
    """A space from text; relative paths in it start at the working directory."""
    return space_from(parse_document(text, source), Path.cwd(), overrides)


def space_from(
    document: Document, folder: Path, overrides: Sequence[str] = (), path: Path | None = None
) -> SearchSpace:
    """Override, resolve, validate and check a document; `folder` is where its paths start."""
    document = _overridden(document, overrides)
    _resolve_references(document, folder)
    _scalars_to_text(document.data)
    space = validated(SearchSpace, document)
    space._source = path
    found = list(problems(space))
    if found:
        raise told_together([str(document.error(key, message)) for key, message in found])
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


def _overridden(document: Document, overrides: Sequence[str]) -> Document:
    if not isinstance(document.data, dict):
        raise document.error((), "a space is a mapping of keys such as name, framework, parameters")
    changed = Document(document.source, copy.deepcopy(document.data), dict(document.places))
    for override in overrides:
        apply_override(changed, override)
    return changed


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


def _named(model: type[Model], kind: str, folder: str, name: str) -> Model:
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
        data["cwd"] = _at(document, ("cwd",), _directory, folder, data["cwd"])
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


def _directory(folder: Path, cwd: str) -> str:
    try:
        return str((folder / Path(cwd).expanduser()).resolve())
    except (OSError, RuntimeError) as error:
        raise BadInput(f"{cwd!r} is no directory that can be: {error}") from None


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
