"""How well the cost model predicts measured tables: numbers, plots and a Markdown table.

    python analysis/cost_model_accuracy.py CSV... [--json FILE] [--results FOLDER]

Takes any CSV in the form of shared/data. A task is one source, model, gpu, gpus, seq_len and
gbs; a config one layout in it; repeated rows count as the median of their successes. The
constants are those that ship (autotune/costmodel/fitted.yaml); each task says which. The k
observed points of a calibration are the predicted top k and are left out of its score.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cost_model_peers import peers_of
from cost_model_scores import TaskScore, score_task, summarise

from autotune.costmodel.measured import build_tasks, read_rows
from autotune.errors import AutotuneError

RESULTS = Path(__file__).resolve().parent / "results"
COLUMNS = (
    ("configs", "configs", "{:.0f}"),
    ("memory_mape", "memory MAPE", "{:.1%}"),
    ("memory_bias", "memory bias", "{:+.1%}"),
    ("oom_accuracy", "OOM right", "{:.1%}"),
    ("spearman", "Spearman", "{:.2f}"),
    ("rank_of_best", "rank of best", "{:.0f}"),
    ("regret_top1", "regret top 1", "{:.1%}"),
    ("regret_top5", "regret top 5", "{:.1%}"),
    ("step_time_mape_raw", "step MAPE", "{:.1%}"),
    ("step_time_mape_after_3", "after 3", "{:.1%}"),
    ("step_time_mape_after_10", "after 10", "{:.1%}"),
)


def add_peers(score: TaskScore) -> dict[str, float | None]:
    """Put the peers' predictions beside ours in ``rows``; their errors on the same rows."""
    peers = peers_of(score.task)
    memory: dict[str, list[float]] = defaultdict(list)
    steps: list[float] = []
    for i, row in enumerate(score.rows):
        row["megatron_formula_memory_gib"] = float(peers.megatron_memory_gib[i])
        row["lower_bound_memory_gib"] = float(peers.lower_bound_gib[i])
        row["six_nd_step_time_s"] = float(peers.six_nd_s[i])
        if row["status"] == "ok" and row["memory_gib"]:
            for name in ("megatron_formula", "lower_bound"):
                memory[name].append(abs(row[f"{name}_memory_gib"] / row["memory_gib"] - 1.0))
        if row["status"] == "ok" and row["step_time_s"]:
            steps.append(abs(row["six_nd_step_time_s"] / row["step_time_s"] - 1.0))
    return {
        "megatron_formula_memory_mape": _mean(memory["megatron_formula"]),
        "lower_bound_memory_mape": _mean(memory["lower_bound"]),
        "six_nd_step_time_mape": _mean(steps),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def evaluate(paths: Sequence[str]) -> dict[str, Any]:
    """The whole report as JSON-able data: ``tasks``, ``overall``, ``by_source``, ``rows``."""
    tasks, skipped = build_tasks(read_rows(paths))
    scores, tables = [], []
    for task in tasks:
        score = score_task(task)
        scores.append(score)
        tables.append({**score.as_dict(), **add_peers(score)})
    by_source: dict[str, list[TaskScore]] = defaultdict(list)
    for score in scores:
        by_source[score.task.key[0]].append(score)
    return {
        "tasks": tables,
        "overall": {**summarise(scores), **_peer_medians(tables)},
        "by_source": {
            name: {**summarise(group), **_peer_medians([t for t in tables if t["source"] == name])}
            for name, group in by_source.items()
        },
        "skipped": skipped,
        "rows": [row for score in scores for row in score.rows],
    }


def _peer_medians(tables: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    for name in (
        "megatron_formula_memory_mape",
        "lower_bound_memory_mape",
        "six_nd_step_time_mape",
    ):
        values = [t[name] for t in tables if t[name] is not None]
        out[name] = float(np.median(values)) if values else None
    return out


def markdown(report: dict[str, Any], most: int = 60) -> str:
    """Sources first, then the tasks with at least three configs (the first ``most``)."""
    header = "| | " + " | ".join(title for _, title, _ in COLUMNS[1:]) + " |"
    rule = "|---|" + "---:|" * (len(COLUMNS) - 1)
    lines = ["## By source (medians over tasks)", "", header, rule]
    for name, figures in {**report["by_source"], "**all**": report["overall"]}.items():
        lines.append(f"| {name} ({figures['tasks']:.0f} tasks) | {_cells(figures, COLUMNS[1:])} |")
    lines += ["", "## Peers on the same rows (medians over tasks)", ""]
    lines += ["| | our memory | Megatron's formula | lower bound | our step time | 6ND |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    peers = (
        ("memory_mape", "", "{:.1%}"),
        ("megatron_formula_memory_mape", "", "{:.1%}"),
        ("lower_bound_memory_mape", "", "{:.1%}"),
        ("step_time_mape_raw", "", "{:.1%}"),
        ("six_nd_step_time_mape", "", "{:.1%}"),
    )
    for name, figures in {**report["by_source"], "**all**": report["overall"]}.items():
        lines.append(f"| {name} | {_cells(figures, peers)} |")
    large = [t for t in report["tasks"] if t["configs"] >= 3]
    lines += ["", "## Tasks of three configs or more", ""]
    lines += ["| task | " + " | ".join(title for _, title, _ in COLUMNS) + " |"]
    lines += ["|---|" + "---:|" * len(COLUMNS)]
    lines += [f"| {t['task']} | {_cells(t, COLUMNS)} |" for t in large[:most]]
    if report["skipped"]:
        lines += ["", f"{len(report['skipped'])} groups name no model or GPU that is known."]
    return "\n".join(lines) + "\n"


def _cells(figures: dict[str, Any], columns: Sequence[tuple[str, str, str]]) -> str:
    cells = []
    for key, _, style in columns:
        value = figures.get(key)
        cells.append("" if value is None or not np.isfinite(value) else style.format(value))
    return " | ".join(cells)


def plot(report: dict[str, Any], target: Path) -> None:
    """Predicted against measured, step time and memory, one HTML page; needs plotly."""
    from plotly import graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, subplot_titles=("step time, s", "peak memory, GiB"))
    source_of = {task["task"]: task["source"] for task in report["tasks"]}
    for column, measured, predicted in (
        (1, "step_time_s", "predicted_step_time_s"),
        (2, "memory_gib", "predicted_memory_gib"),
    ):
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in report["rows"]:
            if row["status"] == "ok" and row[measured]:
                groups[source_of[row["task"]]].append(row)
        for source, rows in groups.items():
            x, y = [r[measured] for r in rows], [r[predicted] for r in rows]
            figure.add_scatter(
                x=np.round(x, 4), y=np.round(y, 4), mode="markers", name=source[:40],
                marker={"size": 4}, legendgroup=source, showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
        known = [r[measured] for rows in groups.values() for r in rows]
        if known:
            ends = [min(known), max(known)]
            line = go.Scatter(
                x=ends, y=ends, mode="lines", line={"color": "gray"}, showlegend=False
            )
            figure.add_trace(line, row=1, col=column)
        figure.update_xaxes(type="log", title="measured", row=1, col=column)
        figure.update_yaxes(type="log", title="predicted", row=1, col=column)
    figure.write_html(target, include_plotlyjs="cdn", full_html=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate, print the table, write what was asked for; exit status 0 or the error's own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", metavar="CSV")
    parser.add_argument("--json", type=Path, help="write tasks, overall and rows here")
    parser.add_argument("--results", type=Path, help="write cost_model.md and the plot here")
    options = parser.parse_args(arguments)
    missing = [path for path in options.tables if not Path(path).is_file()]
    if missing:
        print(f"no such file: {', '.join(missing)}; name CSV files", file=sys.stderr)
        return 2
    try:
        report = evaluate(options.tables)
    except (AutotuneError, KeyError) as error:
        print(f"cannot read the tables: {error}", file=sys.stderr)
        return 2
    text = markdown(report)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        title = "# Cost model against measured runs\n\n"
        (options.results / "cost_model.md").write_text(title + text, encoding="utf-8")
        small = {key: report[key] for key in ("overall", "by_source", "skipped")}
        small["tasks"] = [task for task in report["tasks"] if task["configs"] >= 3]
        target = options.results / "cost_model.json"
        target.write_text(json.dumps(small, indent=1) + "\n", encoding="utf-8")
        plot(report, options.results / "cost_model.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
