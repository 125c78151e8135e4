"""Log formats by name: one file each, a table that sets ``FORMAT``; drop a file to add one.

``auto`` is no file: it stands for all of them, the framework's own lines believed before
generic ones.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from autotune.errors import BadInput
from autotune.logs.format import LogFormat

AUTO = "auto"
ALIASES = {"huggingface": "hf", "hf_trainer": "hf", "transformers": "hf", "gpt_torch": "nanogpt"}


def known_formats() -> tuple[str, ...]:
    """Names that ``get_format`` accepts, sorted; ``auto`` among them."""
    names = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    return tuple(sorted({*names, *ALIASES, AUTO}))


@cache
def get_format(name: str) -> LogFormat:
    """The format called ``name``; BadInput lists the known ones."""
    if name == AUTO:
        return LogFormat(AUTO, (), members=_all_formats())
    if name not in known_formats():
        raise BadInput.unknown("log format", name, known_formats(), where="metric.format")
    module = importlib.import_module(f"{__name__}.{ALIASES.get(name, name)}")
    found: LogFormat = module.FORMAT
    return found


def _all_formats() -> tuple[LogFormat, ...]:
    names = set(known_formats()) - {AUTO} - set(ALIASES)
    return tuple(sorted(map(get_format, names), key=lambda one: (one.precedence, one.name)))
