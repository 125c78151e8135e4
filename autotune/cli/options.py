"""Command-line options that several commands share, and what they mean."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autotune.errors import BadInput

if TYPE_CHECKING:
    from autotune.study.record import Study

StudyName = Annotated[str, typer.Argument(help="The study's name; `autotune status` lists them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Where the record lives: sqlite:///, postgresql://, mysql://, journal:///. "
        "Default: $AUTOTUNE_STORAGE, else a private SQLite file in the study's folder."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override any key of the space; repeatable."),
]


def storage_url(given: str | None) -> str | None:
    """The storage asked for on the command line or in the environment."""
    return given or os.environ.get("AUTOTUNE_STORAGE") or None


def open_study(name: str | None, storage: str | None = None) -> Study:
    """The named study, or the newest one; BadInput lists the known ones."""
    from autotune.study.paths import StudyPaths, study_names
    from autotune.study.record import Study

    if name is None:
        names = study_names()
        if not names:
            raise BadInput("there is no study yet. `autotune run --space NAME` starts one.")
        name = names[-1]
    return Study.open(StudyPaths.named(name), storage_url(storage))


def python_of_trials(given: str | None) -> str:
    """The interpreter of trials: the one given, else the one that runs autotune."""
    import shutil

    if given is None:
        return sys.executable
    found = shutil.which(given)
    if found is None:
        raise BadInput(f"--python {given}: no such program. Give the path of a Python.")
    return str(Path(found).absolute())


def launcher_options(given: Sequence[str] | None) -> dict[str, Any]:
    """KEY=VALUE options as a mapping, values read as YAML."""
    import yaml

    found: dict[str, Any] = {}
    for item in given or ():
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise BadInput(f"--launcher-option {item!r}: write KEY=VALUE")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadInput(f"--launcher-option {item!r}: not a YAML value ({error})") from error
    return found
