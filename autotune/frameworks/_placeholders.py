"""The one way a user's text takes values: ``{name}``, in arguments, environment and templates.

``{{`` and ``}}`` stand for single braces in arguments and environment values. In files, which
are full of braces of their own (JSON, shell), only ``{identifier}`` is a placeholder: every
other brace and ``${NAME}`` stay as they are, and ``{{identifier}}`` stands for ``{identifier}``.
Booleans are written ``true`` and ``false``. The value ``None`` is an inactive parameter's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from autotune.config import ParameterValue
from autotune.errors import BadInput

Values = Mapping[str, ParameterValue]

_IN_TEXT = re.compile(r"(?P<double>\{\{|\}\})|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<stray>[{}])")
_IN_FILE = re.compile(
    r"\{(?P<double>\{[A-Za-z_][A-Za-z0-9_]*\})\}|(?<!\$)\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}"
)
_JINJA = re.compile(r"\{\{\s+(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*\}\}|\{%")


def written(value: ParameterValue) -> str:
    """A value as programs are given it; text stays as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def placeholders(text: str, file: bool = False) -> set[str]:
    """The names that a text or, with ``file``, a template asks for."""
    pattern = _IN_FILE if file else _IN_TEXT
    return {found["name"] for found in pattern.finditer(text) if found["name"]}


def fill(text: str, values: Values, where: str) -> str | None:
    """An argument or environment value with its values; None when one of them is inactive.

    BadInput for an unknown name, listing the known ones, and for a brace that stands alone.
    """

    def value_of(found: re.Match[str]) -> str:
        if found["stray"]:
            raise BadInput(
                f"{where}: a single {found['stray']!r} in {text!r}; write {{name}} for a value "
                f"and {found['stray'] * 2} for the brace itself"
            )
        if found["double"]:
            return found["double"][0]
        return written(_known(found["name"], values, where))

    filled = _IN_TEXT.sub(value_of, text)
    return None if any(values[name] is None for name in placeholders(text)) else filled


def fill_file(text: str, values: Values, where: str) -> str:
    """A template with its values; an inactive one is left empty. BadInput as for ``fill``."""
    jinja = _JINJA.search(text)
    if jinja is not None:
        name = jinja["name"] or "name"
        raise BadInput(f"{where}: {jinja[0]!r}: templates take values as {{{name}}}, not as Jinja")

    def value_of(found: re.Match[str]) -> str:
        return found["double"] or written(_known(found["name"], values, where))

    return _IN_FILE.sub(value_of, text)


def fill_arguments(template: Collection[str], values: Values, where: str) -> Iterator[str]:
    """Arguments with their values; what speaks of an inactive parameter is left out.

    An argument that is a value alone (``{name}``) takes the flag before it along: of
    ``["--method", "{method}"]`` nothing is left where ``method`` is inactive.
    """
    held: str | None = None
    for text in template:
        filled = fill(text, values, where)
        if filled is None:
            takes_flag = re.fullmatch(r"\{\w+\}", text) and held is not None
            if held is not None and not (takes_flag and held.startswith("-")):
                yield held
            held = None
            continue
        if held is not None:
            yield held
        held = filled
    if held is not None:
        yield held


def _known(name: str, values: Values, where: str) -> ParameterValue:
    if name not in values:
        raise BadInput.unknown("placeholder", name, values, where=where)
    return values[name]


def matcher(text: str, file: bool = False) -> Callable[[str], dict[str, str] | None]:
    """Reads a filled text back: the written value of each placeholder, None where it differs."""
    pattern, position, seen = "", 0, set()
    for found in (_IN_FILE if file else _IN_TEXT).finditer(text):
        pattern += re.escape(text[position : found.start()])
        position = found.end()
        name = found["name"]
        if not name:
            literal = found["double"] if file else found["double"][0]
            pattern += re.escape(literal)
        elif name in seen:
            pattern += f"(?P={name})"
        else:
            seen.add(name)
            pattern += f"(?P<{name}>.*?)"
    compiled = re.compile(pattern + re.escape(text[position:]), re.DOTALL)

    def read(filled: str) -> dict[str, str] | None:
        matched = compiled.fullmatch(filled)
        return None if matched is None else matched.groupdict()

    return read
