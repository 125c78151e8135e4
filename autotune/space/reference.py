"""Describes the keys of a space from the models that validate them, so the page cannot go stale.

`python -m autotune.space.reference` prints the tables that docs/spaces.md carries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autotune.space.cluster import Cluster, Link
from autotune.space.contract import Contract
from autotune.space.limits import Budget, Objective, TrialLimits
from autotune.space.model import ModelShape
from autotune.space.parameter import Parameter
from autotune.space.search_space import Constraint, Metric, SearchSpace, Template

SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": SearchSpace,
    "`cluster`": Cluster,
    "`cluster.intra_node`, `cluster.inter_node`": Link,
    "`contract`": Contract,
    "`parameters.NAME`": Parameter,
    "`constraints`, with a reason": Constraint,
    "`objective`": Objective,
    "`budget`": Budget,
    "`trial`": TrialLimits,
    "`metric`": Metric,
    "`files.PATH`, from a file": Template,
}

_KINDS: dict[Any, str] = {
    int: "integer",
    float: "number",
    bool: "true/false",
    str: "text",
    Any: "anything",
    ModelShape: "text or mapping",
}


def json_schema() -> dict[str, Any]:
    """JSON Schema of a space file, for editors; looser than the loader, never stricter."""
    schema = SearchSpace.model_json_schema()
    properties = schema["properties"]
    scalar = {"type": ["string", "number", "boolean"]}
    properties["model"]["anyOf"].insert(0, {"type": "string"})
    properties["command"]["anyOf"][0]["items"] = scalar
    properties["env"]["additionalProperties"] = scalar
    return schema


def reference_tables() -> str:
    """Markdown: one table a section, with key, kind, default and meaning."""
    return "\n\n".join(_table(title, model) for title, model in SECTIONS.items())


def _table(title: str, model: type[BaseModel]) -> str:
    lines = [f"### {title}", "", "| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        kind = _escape(_kind(field.annotation))
        meaning = _escape(field.description or "")
        lines.append(f"| `{name}` | {kind} | {_default(field)} | {meaning} |")
    return "\n".join(lines)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "all left out"
    return "" if value in (None, "", (), {}) else f"`{json.dumps(value)}`"


def _kind(annotation: Any) -> str:
    """The kind of value in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(a) for a in inner if a is not NoneType))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        kinds = dict.fromkeys(_kind(item) for item in inner if item is not Ellipsis)
        return f"list of {', '.join(kinds)}"
    if origin is dict:
        return f"mapping to {_kind(inner[1])}"
    return _KINDS.get(annotation, "mapping")


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def undescribed() -> Iterator[str]:
    """Keys whose meaning nobody wrote down."""
    for title, model in SECTIONS.items():
        yield from (f"{title} {n}" for n, f in model.model_fields.items() if not f.description)


if __name__ == "__main__":
    print(reference_tables())
