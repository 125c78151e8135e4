"""`autotune export`: the winner as files that run without us."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autotune.cli.options import Storage, StudyName, open_study


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    study: StudyName,
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")],
    format: Annotated[str, typer.Option(help="bash, megatron, ...")] = "bash",
    trial: Annotated[int | None, typer.Option(help="Another trial than the winner.")] = None,
    storage: Storage = None,
) -> None:
    """Write the winner's run script and files."""
    from autotune.export import get_exporter, write_export
    from autotune.export._winner import winner_of

    get_exporter(format)
    opened = open_study(study, storage)
    winner = winner_of(opened, trial, out.absolute())
    for path in write_export(format, winner):
        print(path)
    if winner.provenance["simulated"]:
        import sys

        print("SIMULATED: the figure was measured on the simulated cluster.", file=sys.stderr)
