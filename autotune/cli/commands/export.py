"""`autotune export`: the winner as files that run without us."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.options import Storage, StudyName, open_study
from autotune.trial import Interval

if TYPE_CHECKING:
    from autotune.export import Winner
    from autotune.study.record import Study

CLOSE = 0.05
"""A rerun this near is the same for a user, whatever the intervals say of noise within a run."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    study: StudyName,
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")],
    format: Annotated[
        str,
        typer.Option(
            help="bash, torchrun, sbatch, mpirun, deepspeed, accelerate, megatron, nemo, "
            "torchtitan, k8s, rayjob or json."
        ),
    ] = "bash",
    trial: Annotated[int | None, typer.Option(help="Another trial than the winner.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run the exported run.sh here and compare figures.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Write the winner's run script and files."""
    from autotune.export import get_exporter, write_export
    from autotune.export._winner import warnings_here, winner_of

    get_exporter(format)
    opened = open_study(study, storage)
    winner = winner_of(opened, trial, out.absolute())
    for path in write_export(format, winner):
        print(path)
    if winner.provenance["simulated"]:
        print("SIMULATED: the figure was measured on the simulated cluster.", file=sys.stderr)
    warnings = warnings_here(winner)
    if warnings:
        print("autotune: WARNING: this is not what the figure was measured on:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in warnings), file=sys.stderr)
    if verify:
        _verify(opened, winner)


def _verify(study: Study, winner: Winner) -> None:
    """Print the study's figure beside the one of the run script; exit 1 when they differ."""
    from autotune import figures
    from autotune.export._verify import rerun

    again = rerun(study, winner)
    kept = Interval(**winner.provenance["objective"])
    unit = figures.unit(str(winner.provenance["metric"]))
    print(f"the study: {figures.interval(kept)} {unit}")
    print(f"run.sh:    {figures.interval(again)} {unit}")
    off = again.value / kept.value - 1
    if abs(off) <= CLOSE:
        print(f"The exported script does what was measured ({off:+.1%}).")
        return
    if kept.overlaps(again):
        print(f"The exported script is {off:+.1%} off, within what these noisy figures allow.")
        return
    print(f"autotune: the exported script is {off:+.1%} off what was measured", file=sys.stderr)
    raise typer.Exit(1)
