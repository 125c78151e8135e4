"""`autotune report`: a study as one file to look at, to send, or to compute with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autotune.cli.options import Storage, StudyName, open_study
from autotune.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(
    study: StudyName,
    format: Annotated[str, typer.Option(help="html, md, json or csv.")] = "html",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The file; '-' for stdout. Default: STUDY.FORMAT."),
    ] = None,
    storage: Storage = None,
) -> None:
    """Write what a study found: one HTML page that works offline, or md, json, csv."""
    from autotune.plots import story_of
    from autotune.report.formats import NAMES, render
    from autotune.study.paths import write_atomically

    if format not in NAMES:
        raise BadInput.unknown("report format", format, NAMES)
    text = render(story_of(open_study(study, storage)), format)
    if str(out) == "-":
        sys.stdout.write(text)
        return
    path = out or Path(f"{study}.{format}")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: its folder does not exist. Give another -o FILE.")
    write_atomically(path, text)
    print(path)
