"""`autotune status`, `logs` and `best`: look at a study without touching it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.options import Json, Storage, StudyName, open_study

if TYPE_CHECKING:
    from autotune.study.record import Study

WATCH_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command()(logs)
    app.command()(best)


def status(
    study: Annotated[str | None, typer.Argument(help="The study; default: all of them.")] = None,
    storage: Storage = None,
    watch: Annotated[
        bool, typer.Option(help="Look again every two seconds until it ends.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a study's trials, or list all studies."""
    if study is None:
        _list_studies(as_json)
        return
    goes_on = _show(study, storage, as_json)
    while watch and goes_on and not as_json:
        time.sleep(WATCH_S)
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[2J\x1b[H")
        goes_on = _show(study, storage, as_json)


def _list_studies(as_json: bool) -> None:
    from autotune.cli import console
    from autotune.study.paths import StudyPaths, home, read_json, study_names

    found = [read_json(StudyPaths.named(name).settings) or {} for name in study_names()]
    if as_json:
        keys = ("name", "space_name", "storage", "simulated")
        console.print_json([{key: item.get(key) for key in keys} for item in found])
        return
    if not found:
        print(f"No study in {home()}. `autotune run --space NAME` starts one.")
    for item in found:
        mark = " (simulated)" if item.get("simulated") else ""
        print(f"{item.get('name')}  {item.get('space_name')}{mark}  {item.get('storage')}")


def _show(name: str, storage: str | None, as_json: bool) -> bool:
    """Print the study; whether it may go on: it runs, or did not end yet."""
    from autotune import figures
    from autotune.cli import console, views
    from autotune.controller.standing import result

    study = open_study(name, storage)
    records = study.records()
    metric = str(study.settings.get("metric", "tokens_per_s"))
    if as_json:
        console.print_json(views.status_json(name, records, study.noted("ended")))
        return False
    out = console.out()
    out.print(views.trial_table(records, metric, views.baseline_values(records)))
    found = result(records, *study.reading)
    out.print(
        f"{len(records)} trials ("
        + ", ".join(f"{n} {o}" for o, n in views.counts(records).items())
        + f"); {study.noted('ended') or 'not ended'}"
    )
    ended = bool(study.noted("ended")) and all(record.finished for record in records)
    if any(record.simulated for record in records):
        out.print("SIMULATED: no GPU was used.", style=console.WARN)
    if found.winner is not None:
        out.print(
            f"{'winner' if ended else 'best so far'}: trial {found.winner.record.number}, "
            f"{figures.interval(found.winner.objective)} {figures.unit(metric)}, "
            f"{figures.gain(found.gain)} over the baseline"
        )
        for line in views.beside(found, metric):
            out.print(line)
    study.close()
    return not ended


def logs(
    trial: Annotated[int, typer.Argument(help="The trial's number.")],
    study: Annotated[str | None, typer.Option(help="The study; default: the newest.")] = None,
    storage: Storage = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it is written.")] = False,
    attempt: Annotated[int | None, typer.Option(help="Which attempt; default: the last.")] = None,
) -> None:
    """Print what a trial's ranks wrote."""
    from autotune.logs.tail import TrialLogs

    opened = open_study(study, storage)
    record = opened.record(trial)
    number = attempt or opened.intent(trial).attempt
    reader = TrialLogs(opened.paths.trial(trial, number).folder)
    several = opened.paths.trial(trial, number).logs
    ranks = len(list(several.glob("rank*.000.log"))) if several.is_dir() else 0
    while True:
        wrote = False
        for rank, _arrival_s, line in reader.read():
            wrote = True
            prefix = f"[rank{rank}] " if ranks > 1 else ""
            text = line if isinstance(line, str) else line.decode("utf-8", "replace")
            sys.stdout.write(f"{prefix}{text}\n")
        sys.stdout.flush()
        if wrote:
            continue
        if not follow or record.finished:
            return
        time.sleep(0.2)
        opened.load()
        record = opened.record(trial)


def best(
    study: StudyName,
    storage: Storage = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="All that nothing beats in tokens/s and memory both.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the winner beside the baseline; exit 1 when no trial may win."""
    from autotune import figures
    from autotune.cli import console, views
    from autotune.controller.standing import result

    opened = open_study(study, storage)
    metric = str(opened.settings.get("metric", "tokens_per_s"))
    if pareto:
        _pareto(opened, as_json)
        return
    found = result(opened.records(), *opened.reading)
    if as_json:
        console.print_json(views.best_json(opened.name, found, metric))
    elif found.winner is None:
        print("No trial may win: none ran to its end with enough measured steps.", file=sys.stderr)
    else:
        winner = found.winner
        print(
            f"trial {winner.record.number}: {figures.interval(winner.objective)} "
            f"{figures.unit(metric)}, {figures.gain(found.gain)} over the baseline"
            + (" (simulated)" if winner.record.simulated else "")
        )
        for line in views.beside(found, metric):
            print(line)
        for name, value in winner.values.items():
            print(f"  {name} = {figures.shown(value)}")
    if found.winner is None:
        raise typer.Exit(1)


def _pareto(study: Study, as_json: bool) -> None:
    """Tokens/s against peak memory: what nothing measured beats in both; exit 1 without any."""
    from autotune.cli import console, views
    from autotune.controller.standing import standings
    from autotune.search.merit import pareto_front

    records = study.records()
    ranked = standings(records, study.reading[0])
    front = pareto_front([s.record for s in ranked if not s.parity])
    if as_json:
        console.print_json([views.trial_json(record) for record in front])
    elif front:
        metric = str(study.settings.get("metric", "tokens_per_s"))
        console.out().print(views.pareto_table(front, metric, views.baseline_values(records)))
        if any(record.simulated for record in front):
            console.out().print("SIMULATED: no GPU was used.", style=console.WARN)
    else:
        print("No trial has both a rate in tokens/s and a peak memory.", file=sys.stderr)
    if not front:
        raise typer.Exit(1)
