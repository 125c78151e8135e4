"""`autotune explain`: which change bought what, why a trial was run, why a config was not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autotune.cli.options import Json, Storage, open_study
from autotune.config import SHORT_NAMES
from autotune.errors import BadInput

if TYPE_CHECKING:
    from autotune.controller import Setting
    from autotune.controller.ladder import Measured, Rung
    from autotune.study.record import Study

BAR = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(explain)


def explain(
    study: Annotated[str, typer.Argument(help="A study, or STUDY:N for its trial N.")],
    trial: Annotated[int | None, typer.Option(help="The same as STUDY:N.")] = None,
    skipped: Annotated[bool, typer.Option("--skipped", help="Why configs were not run.")] = False,
    kind: Annotated[
        str | None, typer.Option(help="With --skipped: every config with this reason.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="With --skipped: at most this many (of each).", min=0)
    ] = None,
    offset: Annotated[
        int, typer.Option(help="With --skipped --kind or --json: leave out the first.", min=0)
    ] = 0,
    rules: Annotated[
        bool, typer.Option("--rules", help="What failures ruled out; audits and withdrawals.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Run the rungs without asking.")] = False,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Measure which change from the baseline to the winner bought what; or explain one trial."""
    from autotune.cli.skipped import print_rules, print_skipped

    name, _, number = study.partition(":")
    if number:
        if not number.isdigit():
            raise BadInput(f"{study!r}: write STUDY or STUDY:N with N a trial's number")
        trial = int(number)
    opened = open_study(name, storage)
    if trial is not None:
        _one_trial(opened, trial, as_json)
    elif skipped or kind is not None:
        print_skipped(opened, _setting(opened), kind, limit, offset, as_json)
    elif rules:
        print_rules(opened, _setting(opened), as_json)
    else:
        _ladder(opened, yes, as_json)


def _setting(study: Study) -> Setting:
    from autotune.controller import Options, prepare_space
    from autotune.space import load_space

    options = Options.from_json(study.settings["options"])
    return prepare_space(load_space(str(study.paths.space)), options)


def _one_trial(study: Study, number: int, as_json: bool) -> None:
    """Why this config, what was expected, what came."""
    from autotune import figures
    from autotune.cli import console, views
    from autotune.report.notes import expectation, outcome
    from autotune.study.codec import record_to_json

    record = study.record(number)
    if as_json:
        console.print_json(record_to_json(record))
        return
    metric = str(study.settings.get("metric", "tokens_per_s"))
    simulated = " (simulated)" if record.simulated else ""
    print(f"Trial {number}, {record.kind}{simulated}: {record.outcome or 'running'}")
    print(f"Why: {record.reason or 'nothing was noted'}")
    base = views.baseline_values(study.records()) or {}
    for name, before, after in figures.changes(record.values, base):
        print(f"  {name}: {before} -> {after}")
    print(f"Expected: {expectation(record) or 'nothing; there is no cost model for it'}")
    print(f"Came: {outcome(record, metric)}")
    measured, expected = record.measurement, record.prediction.step_time_s
    if measured is not None and expected:
        off = measured.step_time_s.value / expected - 1
        print(f"The step took {off:+.0%} of what was expected.")
    for line in record.evidence:
        print(f"  | {line}")


def _ladder(study: Study, yes: bool, as_json: bool) -> None:
    """Plan the rungs, show what they cost, measure the missing ones, tell."""
    from autotune.cli import console, views
    from autotune.controller.ladder import NOTE, measured, plan_ladder, unmeasured
    from autotune.controller.standing import result

    setting = _setting(study)
    study.hold()
    try:
        rungs = plan_ladder(setting, study)
        missing = unmeasured(rungs, study.records())
        if missing:
            _agree(study, rungs, missing, yes)
            _measure(study, setting, rungs)
        study.note(NOTE, [rung.to_json() for rung in rungs])
        found = measured(rungs, study.records(), setting.maximize)
    finally:
        study.close()
    if as_json:
        console.print_json([_row(item) for item in found])
        return
    _print_ladder(found, setting)
    standing = result(study.records(), *study.reading)
    for line in views.without_opt_ins(standing, setting.space.objective.metric):
        console.out().print(line)


def _agree(study: Study, rungs: Sequence[Rung], missing: Sequence[Rung], yes: bool) -> None:
    """Show the budget and ask; BadInput when nobody can be asked."""
    from autotune import figures
    from autotune.controller.ladder import budget_gpu_hours

    steps = sum(rung.role == "step" for rung in rungs)
    undone = sum(rung.role == "without" for rung in rungs)
    hours = budget_gpu_hours(missing, study.records())
    mark = " simulated" if study.settings.get("simulated") else ""
    print(
        f"{steps} changes lead from the baseline to the winner; {undone} are also undone alone, "
        f"to tell the order's effect. {len(missing)} trials are not measured yet: about "
        f"{figures.number(hours)}{mark} GPU-hours.",
        file=sys.stderr,
    )
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput("nobody can be asked here; --yes measures them")
    typer.confirm("Measure them?", abort=True, err=True)


def _measure(study: Study, setting: Setting, rungs: Sequence[Rung]) -> None:
    from autotune.cli.live import Board, LiveScreen, listener_for
    from autotune.controller import Controller
    from autotune.controller.ladder import LadderAgenda

    board = Board(setting.space.objective.metric, setting.maximize, None)
    for record in study.records():
        if record.finished:
            board.add(record)
    listener = listener_for(board)
    ended = str(study.noted("ended") or "the ladder was measured")
    agenda = LadderAgenda(setting, rungs, ended, float(study.noted("wall_time_s") or 0.0))
    controller = Controller(study, setting, listener, agenda)
    with listener if isinstance(listener, LiveScreen) else nullcontext():
        controller.run()
    if controller.signals.exit_code:
        raise typer.Exit(controller.signals.exit_code)


def _row(item: Measured) -> dict[str, Any]:
    span = item.objective.__dict__ if item.objective else None
    return {
        **item.rung.to_json(),
        "objective": span,
        "gain": item.gain.__dict__ if item.gain else None,
        "trials": list(item.trials),
        "failure": item.failure or None,
    }


def _print_ladder(found: Sequence[Measured], setting: Setting) -> None:
    """Two tables: the path with bars, and each change taken back from the winner."""
    from rich.table import Table

    from autotune import figures
    from autotune.cli import console

    out = console.out()
    unit = figures.unit(setting.space.objective.metric)
    most = max((item.objective.value for item in found if item.objective), default=1.0)
    steps = [item for item in found if item.rung.role != "without"]
    if setting.options.simulated:
        out.print("SIMULATED: no GPU was used.", style=console.WARN)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("change")
    table.add_column(unit, no_wrap=True)
    table.add_column("step gain", no_wrap=True)
    table.add_column("", overflow="fold")
    for before, item in zip([None, *steps], steps, strict=False):
        bar = "█" * round(BAR * item.objective.value / most) if item.objective else item.failure
        change = change_text(item, before, setting.space.contract.search)
        step = figures.gain(item.gain) if before else ""
        table.add_row(change, figures.interval(item.objective), step, bar)
    out.print(table)
    alone = [item for item in found if item.rung.role == "without"]
    if not alone:
        return
    out.print("\nThe other order: what the winner has over itself without one change.")
    for item in alone:
        cost = figures.gain(item.gain) if item.gain else item.failure.partition(":")[0]
        out.print(f"  {_names(item.rung.changed)}: {cost}")
    undone = {name for item in alone for name in item.rung.changed}
    left = [n for item in steps for n in item.rung.changed if n not in undone]
    if left:
        out.print(f"Not legal without, whatever else is kept: {_names(left)}")
    out.print("Where the two differ, the order of the changes mattered.")


def _names(names: Sequence[str]) -> str:
    return ", ".join(SHORT_NAMES.get(name, name) for name in names)


def change_text(item: Measured, before: Measured | None, opted_in: Sequence[str] = ()) -> str:
    """What a rung changes, old value and new, a line each; what changes the learning is marked."""
    from autotune import figures

    if before is None:
        return "baseline"
    return "\n".join(
        f"{SHORT_NAMES.get(name, name)} {figures.shown(before.rung.values.get(name))} -> "
        f"{figures.shown(item.rung.values.get(name))}" + " (opted in)" * (name in opted_in)
        for name in item.rung.changed
    )
