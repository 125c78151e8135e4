"""`autotune compare`: two studies, or two trials of one, side by side with their intervals."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from autotune.cli.options import Json, Storage, open_study
from autotune.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compare)


Side = Annotated[str, typer.Argument(help="A study (its winner), or STUDY:N (trial N's config).")]


def compare(first: Side, second: Side, storage: Storage = None, as_json: Json = False) -> None:
    """Say which of two is faster, by how much, and in what they differ."""
    from autotune import figures
    from autotune.cli import console
    from autotune.controller.standing import ratio

    (left, metric, maximize), (right, other, _) = _side(first, storage), _side(second, storage)
    if metric != other:
        raise BadInput(f"{first} is judged by {metric}, {second} by {other}: they do not compare")
    over, under = (right, left) if maximize else (left, right)
    gain = ratio(over.objective, under.objective)
    names = [*left.values, *(name for name in right.values if name not in left.values)]
    differing = {
        name: [left.values.get(name), right.values.get(name)]
        for name in names
        if left.values.get(name) != right.values.get(name)
    }
    mixed = left.record.simulated != right.record.simulated
    apart = not left.objective.overlaps(right.objective)
    if as_json:
        sides = [
            {"name": name, "trials": list(s.numbers), "objective": s.objective.__dict__,
             "simulated": s.record.simulated, "params": dict(s.values)}
            for name, s in ((first, left), (second, right))
        ]  # fmt: skip
        found: dict[str, Any] = {"sides": sides, "gain": gain.__dict__ if gain else None}
        console.print_json({**found, "metric": metric, "separated": apart, "changes": differing})
        return
    for name, side in ((first, left), (second, right)):
        mark = " (simulated)" if side.record.simulated else ""
        print(f"{name}: {figures.interval(side.objective)} {figures.unit(metric)}{mark}")
    print(f"{second} against {first}: {figures.gain(gain)}")
    if not apart:
        print("A tie: the 95% intervals overlap.")
    if mixed:
        print("WARNING: one was measured, the other simulated; the ratio means nothing.")
    for name, (before, after) in differing.items():
        print(f"  {name}: {figures.shown(before)} -> {figures.shown(after)}")


def _side(text: str, storage: str | None) -> tuple[Any, str, bool]:
    """The standing that a side names, its metric, and whether more is better."""
    from autotune.controller.standing import result, standings

    name, colon, number = text.partition(":")
    study = open_study(name, storage)
    maximize = study.settings.get("direction") != "minimize"
    metric = str(study.settings.get("metric", "tokens_per_s"))
    records = study.records()
    if not colon:
        found = result(records, maximize).winner
        if found is None:
            raise BadInput(f"study {name!r} has no winner yet; {name}:N names a trial")
        return found, metric, maximize
    if not number.isdigit():
        raise BadInput(f"{text!r}: write STUDY or STUDY:N with N a trial's number")
    record = study.record(int(number))
    for standing in standings(records, maximize):
        if standing.config_hash == record.config_hash:
            return standing, metric, maximize
    raise BadInput(f"trial {number} of {name!r} ended {record.outcome}: it has no figure")
