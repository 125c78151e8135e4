"""What a run says first and last: what is searched and where; the winner, its price, what next."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from autotune import figures
from autotune.cli import console, views

if TYPE_CHECKING:
    from rich.table import Table

    from autotune.controller import Setting
    from autotune.controller.standing import Result
    from autotune.study.record import Study

SIMULATED = "SIMULATED: no GPU was used; every figure comes from the simulated cluster."


def print_opening(study: Study, setting: Setting) -> None:
    """What will be searched, on what, and where the files lie."""
    talk = console.talk()
    legal = setting.legal
    talk.print(
        f"Study {study.name}: {setting.space.name}, {len(legal):,} legal configs "
        f"of {legal.raw_points:,} points",
        style="bold",
        soft_wrap=False,
    )
    cluster = setting.space.cluster
    if setting.options.simulated:
        talk.print(SIMULATED, style=console.WARN, soft_wrap=False)
    if setting.made_smaller:
        talk.print(
            f"NO GPU HERE: real training, of a smaller job than {setting.space.name} stands for: "
            f"{setting.space.description}",
            style=console.WARN,
        )
    if cluster.hardware is not None:
        talk.print(
            f"{cluster.nodes} x {cluster.gpus_per_node} {cluster.hardware.name}, "
            f"launcher {setting.options.launcher}"
        )
    warm = setting.options.warm_start
    if warm is not None:
        talk.print(
            f"Starts from what {warm['trials']} trials of study {warm['study']} taught "
            "about the cluster."
        )
    if setting.space.contract.search:
        opted = ", ".join(setting.space.contract.search)
        talk.print(
            f"Opted in: {opted} may change, and with it what is learned.", style=console.WARN
        )
    talk.print(f"Files: {study.paths.folder}", soft_wrap=True)


def print_ending(
    study: Study, setting: Setting, found: Result, as_json: bool, *, interrupted: bool
) -> None:
    """The table of trials, winner beside baseline, failures, cost, and the next commands."""
    metric = setting.space.objective.metric
    if as_json:
        console.print_json(views.best_json(study.name, found, metric))
        return
    out = console.out()
    records = study.records()
    out.print(views.trial_table(records, metric, views.baseline_values(records)))
    out.print()
    _print_standing(setting, found, metric)
    told = [record for record in records if record.finished]
    out.print(f"Ended: {study.noted('ended')}.")
    hours = sum(record.gpu_seconds for record in told) / 3600
    outcomes = ", ".join(f"{count} {name}" for name, count in views.counts(told).items())
    out.print(
        f"{len(told)} trials ({outcomes}), {figures.number(hours)} GPU-hours"
        + (" simulated" if setting.options.simulated else "")
    )
    if setting.options.simulated:
        out.print(SIMULATED, style=console.WARN)
    print(f"Files: {study.paths.folder}")
    _print_next(study.name, setting, found, interrupted)


def _print_standing(setting: Setting, found: Result, metric: str) -> None:
    out = console.out()
    if found.winner is None:
        out.print(
            "No config may win: none ran to its end with enough measured steps. "
            "`autotune logs TRIAL` shows what each one said.",
            style="bold red",
        )
        return
    out.print(_comparison(found, metric))
    if found.baseline is None:
        out.print("The baseline failed, so there is no gain to state.", style=console.WARN)
    else:
        out.print(f"Gain over the baseline: {figures.gain(found.gain)}", style="bold")
    for line in views.beside(found, metric):
        out.print(line)
    if found.ties:
        tied = ", ".join("trial " + "/".join(map(str, tie.numbers)) for tie in found.ties[:5])
        out.print(f"A tie: {tied} cannot be told apart from the winner at 95%.")


def _comparison(found: Result, metric: str) -> Table:
    from rich.table import Table

    assert found.winner is not None
    base = found.baseline
    base_values = base.values if base else {}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    table.add_column("baseline" + (f" (trial {_numbers(base.numbers)})" if base else ""))
    table.add_column(f"winner (trial {_numbers(found.winner.numbers)})", style="green")
    table.add_row(
        figures.unit(metric),
        figures.interval(base.objective) if base else "failed",
        figures.interval(found.winner.objective),
    )
    measured = found.winner.record.measurement
    base_measured = base.record.measurement if base else None
    table.add_row(
        "peak memory GiB",
        figures.number(base_measured.peak_memory_gib if base_measured else None),
        figures.number(measured.peak_memory_gib if measured else None),
    )
    for name, before, after in figures.changes(found.winner.values, base_values):
        table.add_row(name, before if base else "", after)
    return table


def _numbers(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _print_next(name: str, setting: Setting, found: Result, interrupted: bool) -> None:
    print("Next:")
    if interrupted:
        print(f"  autotune resume {name}")
    print(f"  autotune status {name}")
    if found.winner is not None:
        kind = "megatron" if setting.space.framework == "megatron" else "bash"
        print(f"  autotune export {name} --format {kind} -o {name}-winner")
    print(f"  autotune dashboard {name}")
    sys.stdout.flush()
