"""`autotune compare`: two studies, or two trials of one, side by side with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autotune.cli.options import Json, Storage, open_study
from autotune.errors import BadInput

if TYPE_CHECKING:
    from autotune.controller.standing import Standing


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compare)


Side = Annotated[str, typer.Argument(help="A study (its winner), or STUDY:N (trial N's config).")]


def compare(first: Side, second: Side, storage: Storage = None, as_json: Json = False) -> None:
    """Say which of two is faster, by how much, and in what they differ."""
    from autotune import figures
    from autotune.cli import console
    from autotune.controller.standing import ratio

    one, two = _side(first, storage), _side(second, storage)
    left, right, metric = one.standing, two.standing, one.metric
    if metric != two.metric:
        message = f"{first} is judged by {metric}, {second} by {two.metric}: they do not compare"
        raise BadInput(message)
    over, under = (two, one) if one.maximize else (one, two)
    gain = ratio(over.standing.objective, under.standing.objective)
    opt_ins = left is not one.unchanged or right is not two.unchanged
    other_gain = ratio(over.unchanged.objective, under.unchanged.objective) if opt_ins else None
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
        found["without_opt_ins"] = {
            "trials": [list(one.unchanged.numbers), list(two.unchanged.numbers)],
            "gain": other_gain.__dict__ if other_gain else None,
        } if opt_ins else None  # fmt: skip
        console.print_json({**found, "metric": metric, "separated": apart, "changes": differing})
        return
    for name, side in ((first, left), (second, right)):
        mark = " (simulated)" if side.record.simulated else ""
        print(f"{name}: {figures.interval(side.objective)} {figures.unit(metric)}{mark}")
    print(f"{second} against {first}: {figures.gain(gain)}")
    if not apart:
        print("A tie: the 95% intervals overlap.")
    if opt_ins:
        print(
            f"Without what the spaces opt in: trial {two.unchanged.record.number} against "
            f"trial {one.unchanged.record.number}: {figures.gain(other_gain)}"
        )
    if mixed:
        print("WARNING: one was measured, the other simulated; the ratio means nothing.")
    for name, (before, after) in differing.items():
        print(f"  {name}: {figures.shown(before)} -> {figures.shown(after)}")


@dataclass(frozen=True)
class _Compared:
    """A side: who stands for it, and who does when nothing opted in may change."""

    standing: Standing
    unchanged: Standing
    metric: str
    maximize: bool


def _side(text: str, storage: str | None) -> _Compared:
    from autotune.controller.standing import result, standings

    name, colon, number = text.partition(":")
    study = open_study(name, storage)
    maximize, opted_in = study.reading
    metric = str(study.settings.get("metric", "tokens_per_s"))
    records = study.records()
    if not colon:
        found = result(records, maximize, opted_in)
        if found.winner is None:
            raise BadInput(f"study {name!r} has no winner yet; {name}:N names a trial")
        same = found.unchanged is None or found.unchanged.config_hash == found.winner.config_hash
        unchanged = found.winner if same or found.unchanged is None else found.unchanged
        return _Compared(found.winner, unchanged, metric, maximize)
    if not number.isdigit():
        raise BadInput(f"{text!r}: write STUDY or STUDY:N with N a trial's number")
    record = study.record(int(number))
    for standing in standings(records, maximize):
        if standing.config_hash == record.config_hash:
            return _Compared(standing, standing, metric, maximize)
    raise BadInput(f"trial {number} of {name!r} ended {record.outcome}: it has no figure")
