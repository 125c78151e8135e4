"""`autotune plan`: predicted memory and step time of every legal config; starts nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.options import Json, Overrides

if TYPE_CHECKING:
    from rich.console import Console

    from autotune.costmodel.plan import Plan, PlanRow

LEAST = 1e-9
"""Less than this is nothing, in s and in GiB."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    space: Annotated[str, typer.Option(help="A space's name (`autotune spaces`) or YAML file.")],
    top: Annotated[
        int, typer.Option(min=0, help="Predictions to show; 0: every legal config by itself.")
    ] = 20,
    html: Annotated[Path | None, typer.Option(help="Write the table and plots as a page.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Predict memory and step time by part; needs no GPU and starts nothing."""
    from autotune.cli import console
    from autotune.controller.gpu_here import other_gpu
    from autotune.controller.setting import framework_rules
    from autotune.costmodel import plan as planning
    from autotune.space import build_legal_set, load_space

    loaded = load_space(space, tuple(overrides or ()))
    legal = build_legal_set(loaded, framework_rules(loaded))
    found = planning.plan(loaded, legal, top or None)
    if told := other_gpu(loaded):
        console.talk().print(f"Note: {told}", style=console.WARN)
    if html is not None:
        from autotune.report.plan_page import plan_page
        from autotune.study.paths import write_atomically

        write_atomically(html, plan_page(found))
        print(html)
    elif as_json:
        console.print_json(found.as_dict())
    else:
        _print(found)


def _print(found: Plan) -> None:
    from autotune.cli import console

    out = console.out()
    out.print(
        f"{found.space}: {found.legal:,} legal configs of {found.raw_points:,} points, "
        f"{found.likely_to_fit:,} likely to fit into {found.capacity_gib:.0f} GiB of "
        f"{found.hardware}. Predicted, nothing was run (constants: {found.constants})."
    )
    if found.never_fitted:
        out.print(
            f"No run of {found.framework} on {found.hardware} was ever fitted: expect the order to "
            "hold better than the figures, whose bands (95%) are wide."
        )
    for row in found.rows:
        _print_row(out, row)
    _print_parts(out, found)
    for item in found.exclusions:
        said = f"{item.count:>12,} excluded by {item.origin}: {item.reason or item.rule}"
        _print_hanging(out, 13, said)


def _print_row(out: Console, row: PlanRow) -> None:
    """Figures, the config, and where the time goes or why it would not fit: three lines."""
    from autotune.figures import number

    alike = f", one of {row.alike:,} alike" if row.alike > 1 else ""
    out.print()
    out.print(
        f"{row.rank:>4}  {number(row.step_time_s)} s/step ({number(row.step_time_low_s)} to "
        f"{number(row.step_time_high_s)})  {number(row.tokens_per_s_per_gpu)} tokens/s/GPU  "
        f"MFU {row.mfu:.0%}",
        style="bold",
    )
    for line in (
        f"{row.label}{' (the baseline)' if row.baseline else ''}{alike}",
        f"{number(row.memory_gib)} GiB ({number(row.memory_low_gib)} to "
        f"{number(row.memory_high_gib)}), fits {row.probability_fits:.0%}: "
        f"{row.reason or _largest(row.memory_by_part_gib)}",
        f"time: {_largest(row.step_time_by_part_s)}",
    ):
        _print_hanging(out, 6, " " * 6 + line)


def _print_hanging(out: Console, indent: int, text: str) -> None:
    """Wrap for a terminal, later lines indented; one whole line elsewhere."""
    if out.is_terminal:
        text = textwrap.fill(
            text, out.width - 1, subsequent_indent=" " * indent, break_on_hyphens=False
        )
    out.print(text)


def _largest(parts: Mapping[str, float]) -> str:
    """The parts that make up most, as shares."""
    whole = sum(parts.values())
    ranked = sorted(parts.items(), key=lambda item: -item[1])[:4]
    shown = (f"{name.replace('_', ' ')} {value / whole:.0%}" for name, value in ranked)
    return ", ".join(part for part in shown if not part.endswith(" 0%"))


def _print_parts(out: Console, found: Plan) -> None:
    """The first config and the baseline, part by part."""
    from rich.table import Table

    from autotune.figures import number

    columns = [row for row in found.rows if row.rank == 1 or row.baseline][:2]
    if not columns:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("part by part", no_wrap=True)
    for row in columns:
        table.add_column(f"#{row.rank}{' baseline' if row.baseline else ''}", justify="right")
    for unit, parts in (
        ("s", [row.step_time_by_part_s for row in columns]),
        ("GiB", [row.memory_by_part_gib for row in columns]),
    ):
        for name in parts[0]:
            cells = [f"{number(by[name] if by[name] > LEAST else 0.0)} {unit}" for by in parts]
            table.add_row(name.replace("_", " "), *cells)
    out.print()
    out.print(table)
    out.print()
