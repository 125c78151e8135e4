"""`autotune plan`: predicted memory and step time of every legal config; starts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.options import Json, Overrides

if TYPE_CHECKING:
    from autotune.costmodel.plan import Plan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    space: Annotated[str, typer.Option(help="A space's name (`autotune spaces`) or YAML file.")],
    top: Annotated[int, typer.Option(min=0, help="Rows to show; 0: every legal config.")] = 20,
    html: Annotated[Path | None, typer.Option(help="Write the table and plots as a page.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Predict memory and step time by part; needs no GPU and starts nothing."""
    from autotune.cli import console
    from autotune.controller.setting import framework_rules
    from autotune.costmodel import plan as planning
    from autotune.space import build_legal_set, load_space

    loaded = load_space(space, tuple(overrides or ()))
    legal = build_legal_set(loaded, framework_rules(loaded))
    found = planning.plan(loaded, legal, top or None)
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
    from rich.table import Table

    from autotune import figures
    from autotune.cli import console

    out = console.out()
    out.print(
        f"{found.space}: {found.legal:,} legal configs of {found.raw_points:,} points, "
        f"{found.likely_to_fit:,} likely to fit into {found.capacity_gib:.0f} GiB of "
        f"{found.hardware}. Predicted, nothing was run (constants: {found.constants})."
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("config", overflow="fold")
    for column in ("s/step", "tokens/s/GPU", "MFU", "GiB", "fits"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("where the time goes", overflow="fold")
    for row in found.rows:
        parts = sorted(row.step_time_by_part_s.items(), key=lambda item: -item[1])[:3]
        said = ", ".join(
            f"{name.replace('_', ' ')} {seconds / row.step_time_s:.0%}" for name, seconds in parts
        )
        table.add_row(
            str(row.rank) + ("*" if row.baseline else ""), row.label,
            figures.number(row.step_time_s), figures.number(row.tokens_per_s_per_gpu),
            f"{row.mfu:.0%}", figures.number(row.memory_gib), f"{row.probability_fits:.0%}",
            row.reason or said,
        )  # fmt: skip
    out.print(table)
    if any(row.baseline for row in found.rows):
        out.print("* the baseline")
    for item in found.exclusions:
        out.print(f"{item.count:>12,} excluded by {item.origin}: {item.reason or item.rule}")
