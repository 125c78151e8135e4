"""A plan as one offline page: what is predicted of the best configs, and what each part takes."""

from __future__ import annotations

from typing import Any

from autotune import figures
from autotune.costmodel.plan import Plan, PlanRow
from autotune.plots.figure import ROW_PX, figure
from autotune.report.formats import fill_page

COLOURS = ("#3b6fb6", "#d98e04", "#1a7f5a", "#c2462d", "#7a5fa8", "#4fa3a5", "#9aa3ad", "#6b4c35")
BARS = 15


def plan_page(plan: Plan) -> str:
    """The page's HTML; every figure is said to be predicted."""
    best = plan.rows[:BARS]
    drawn = {
        "step_time": _stacked([(r, r.step_time_by_part_s) for r in best], "s/step, predicted"),
        "memory": _stacked([(r, r.memory_by_part_gib) for r in best], "GiB a GPU, predicted"),
    }
    return fill_page("plan.html.j2", drawn, plan=plan, rows=[_cells(row) for row in plan.rows])


def _stacked(rows: list[tuple[PlanRow, Any]], unit: str) -> dict[str, Any]:
    names = [f"#{row.rank}" for row, _ in rows]
    parts = sorted(
        {p for _, by in rows for p in by}, key=lambda p: -max(b.get(p, 0) for _, b in rows)
    )
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part.replace("_", " "),
            "y": names,
            "x": [by.get(part, 0.0) for _, by in rows],
            "hovertext": [row.label for row, _ in rows],
            "marker": {"color": COLOURS[at % len(COLOURS)]},
        }
        for at, part in enumerate(parts)
    ]
    axis = {"autorange": "reversed", "type": "category"}
    height = 180 + ROW_PX * len(rows)
    return figure(data, unit, barmode="stack", height=height, yaxis=axis)


def _cells(row: PlanRow) -> tuple[str, ...]:
    return (
        f"{row.rank}{' (baseline)' if row.baseline else ''}",
        row.label.replace("_", " ") + (f" (one of {row.alike:,} alike)" if row.alike > 1 else ""),
        f"{figures.number(row.step_time_s)} ({figures.number(row.step_time_low_s)} to "
        f"{figures.number(row.step_time_high_s)})",
        figures.number(row.tokens_per_s_per_gpu),
        f"{row.mfu:.0%}",
        f"{figures.number(row.memory_gib)} ({figures.number(row.memory_low_gib)} to "
        f"{figures.number(row.memory_high_gib)})",
        f"{row.probability_fits:.0%}",
        row.reason,
    )
