"""How many trials a search needs, replayed over tables that others measured.

    python analysis/sample_efficiency.py CSV... [--methods a,b] [--seeds N] [--json FILE]
    python analysis/sample_efficiency.py ../shared/data/*.csv --left-out model --write

The table is the cluster: a config is one row, a failed row costs a trial. ``--left-out`` fits the
cost model's constants without the task's own model (or source), as for the committed results;
without it the constants that ship are used. ``--write`` writes JSON, Markdown and a plot under
``analysis/results/``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from replay import Grid, Run, load_grids, replay, score, stop
from rivals import DETERMINISTIC, METHODS, RUNS, SLOW

from autotune.errors import BadInput

RESULTS = Path(__file__).resolve().parent / "results"
ALL = [*METHODS, *RUNS]
SLOW_SEEDS = 2
STOPS = ("autotune", "shuffled_prior", "no_prior")
"""Methods that end by themselves: when, and how near the best, is scored too."""


def run_one(grid: Grid, method: str, seed: int) -> Run:
    """One search over one grid by a named method."""
    if method in RUNS:
        return RUNS[method](grid, seed)
    return replay(grid, METHODS[method](grid, seed))


def seeds_of(method: str, seeds: int) -> int:
    """How often a method is run: fixed orders once, slow ones a few times."""
    if method in DETERMINISTIC:
        return 1
    return min(seeds, SLOW_SEEDS) if method in SLOW else seeds


def _work(job: tuple[Grid, str, int]) -> list[dict[str, Any]]:
    grid, method, seeds = job
    rows = []
    for seed in range(seeds_of(method, seeds)):
        run = run_one(grid, method, seed)
        rows.append(
            {
                "task": grid.name,
                "method": method,
                "seed": seed,
                "order": list(run.order),
                "figures": score(grid, run),
            }
        )
        if method in STOPS:
            rows[-1]["stop"] = stop(grid, METHODS[method](grid, seed))
    return rows


def random_chance(grid: Grid) -> dict[str, float]:
    """Exact mean number of trials of a uniform search without repetition, by share of the best.

    Of n rows with k good ones the first good one comes, in the mean, at (n + 1) / (k + 1).
    """
    count = len(grid.configs)
    return {
        name: (count + 1) / (1 + int((grid.speed >= grid.best * (1 - share)).sum()))
        for name, share in (("5pct", 0.05), ("2pct", 0.02), ("best", 0.0))
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and mean, and the largest."""
    return {
        "median": statistics.median(values),
        "mean": round(statistics.fmean(values), 4),
        "max": max(values),
    }


def summarise(grids: Sequence[Grid], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures per task and method over seeds, and per method over the tasks' means."""
    by_task: dict[tuple[str, str], list[dict[str, float]]] = {}
    for row in rows:
        by_task.setdefault((row["task"], row["method"]), []).append(row["figures"])
    tasks = []
    for grid in grids:
        methods = {
            method: {name: spread([f[name] for f in figures]) for name in figures[0]}
            for (task, method), figures in by_task.items()
            if task == grid.name
        }
        good = int((grid.speed > 0.0).sum())
        tasks.append(
            {
                "task": grid.name,
                "configs": len(grid.configs),
                "ok": good,
                "random_expected": random_chance(grid),
                "prior": grid.task is not None,
                "methods": methods,
            }
        )
    return {
        "tasks": tasks,
        "stopping": _stopping(rows),
        "overall": {m: _overall(tasks, m) for m in dict.fromkeys(r["method"] for r in rows)},
    }


def _stopping(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By method: share of runs that ended by themselves within 2% of the best, and when."""
    found = {}
    for method in dict.fromkeys(row["method"] for row in rows if "stop" in row):
        stops = [row["stop"] for row in rows if row["method"] == method]
        found[method] = {
            "within_2pct": statistics.fmean(s["regret"] <= 0.02 for s in stops),
            **{f"trials_{k}": v for k, v in spread([s["trials"] for s in stops]).items()},
        }
    return found


def _overall(tasks: Sequence[Mapping[str, Any]], method: str) -> dict[str, Any]:
    """Over tasks: the median of medians over seeds, the mean of means, the worst mean."""
    have = [task["methods"][method] for task in tasks if method in task["methods"]]
    found: dict[str, Any] = {}
    for name in have[0]:
        found[name] = {
            "median": statistics.median(h[name]["median"] for h in have),
            "mean": round(statistics.fmean(h[name]["mean"] for h in have), 4),
            "max": max(h[name]["mean"] for h in have),
        }
    worse = [
        task["task"]
        for task in tasks
        if method in task["methods"]
        and task["methods"][method]["trials_to_5pct"]["mean"] > task["random_expected"]["5pct"]
    ]
    return {**found, "tasks": len(have), "worse_than_random": worse}


def markdown(result: Mapping[str, Any], command: str) -> str:
    """The overall table and our own method task by task."""
    lines = [
        "# Sample efficiency",
        "",
        f"Regenerate: `{command}`",
        "",
        "Median / mean over tasks (of medians / means over seeds); worst is the largest mean of a "
        "task. A run that never gets there counts as table size + 1.",
        "",
        "| method | to 5% | worst | to 2% | to best | OOM | failed | regret 5 | 10 | 20 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for method, f in result["overall"].items():
        pair = {
            k: f"{v['median']:g} / {v['mean']:.1f}" for k, v in f.items() if isinstance(v, dict)
        }
        regrets = " | ".join(f"{f[f'regret_{n}']['mean']:.1%}" for n in (5, 10, 20))
        lines.append(
            f"| {method} | {pair['trials_to_5pct']} | {f['trials_to_5pct']['max']:.0f} "
            f"| {pair['trials_to_2pct']} | {pair['trials_to_best']} "
            f"| {f['oom_trials']['median']:g} / {f['oom_trials']['mean']:.2f} "
            f"| {f['failed_trials']['mean']:.1f} | {regrets} |"
        )
    for method, told in result["stopping"].items():
        lines += [
            "",
            f"Left to end by itself, {method} stands within 2% of the best in "
            f"{told['within_2pct']:.0%} of its runs, after {told['trials_median']:g} trials in the "
            f"median, {told['trials_max']:g} at most.",
        ]
    lines += ["", "Mean trials to within 5% (2%) of the best, by task:", ""]
    shown = [
        m
        for m in ("autotune", "shuffled_prior", "heuristic", "cost_model", "tpe_legal")
        if m in result["overall"]
    ]
    lines += [
        "| task | configs | ran | random | " + " | ".join(shown) + " |",
        "|---|---:|---:|---:|" + "---:|" * len(shown),
    ]
    for task in result["tasks"]:
        cells = []
        for method in shown:
            m = task["methods"][method]
            cells.append(f"{m['trials_to_5pct']['mean']:.1f} ({m['trials_to_2pct']['mean']:.1f})")
        chance = task["random_expected"]
        lines.append(
            f"| {task['task']} | {task['configs']} | {task['ok']} "
            f"| {chance['5pct']:.1f} ({chance['2pct']:.1f}) | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines) + "\n"


def curves(
    grids: Sequence[Grid], rows: Sequence[Mapping[str, Any]], most: int = 40
) -> dict[str, list[float]]:
    """Mean share of the best speed reached after 1..most trials, by method."""
    by_name = {grid.name: grid for grid in grids}
    reached: dict[str, list[np.ndarray]] = {}
    for row in rows:
        grid = by_name[row["task"]]
        speeds = [grid.speed[r] if r >= 0 else 0.0 for r in row["order"][:most]]
        best = np.maximum.accumulate(speeds) / grid.best
        padded = np.concatenate([best, np.full(most - len(best), best[-1])])
        reached.setdefault(row["method"], []).append(padded)
    return {m: [round(float(v), 4) for v in np.mean(c, axis=0)] for m, c in reached.items()}


def plot(result: Mapping[str, Any], target: Path) -> None:
    """A page with the mean share of the best speed against trials."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for method, line in result["curves"].items():
        figure.add_scatter(x=list(range(1, len(line) + 1)), y=line, name=method, mode="lines")
    figure.update_layout(
        title="Best so far, mean over measured grids",
        xaxis_title="trials",
        yaxis_title="share of the best speed",
        template="plotly_white",
    )
    figure.write_html(target, include_plotlyjs="cdn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Replays, prints the overall table, writes what was asked for; 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tables", nargs="+", help="CSV files of measured runs")
    parser.add_argument(
        "--methods", default=",".join(ALL), help="comma-separated; " + ", ".join(ALL)
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--left-out", choices=("model", "source"), default=None)
    parser.add_argument("--min-configs", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--write", action="store_true", help="write analysis/results/")
    options = parser.parse_args(arguments)
    methods = [name.strip() for name in options.methods.split(",") if name.strip()]
    try:
        for name in methods:
            if name not in ALL:
                raise BadInput.unknown("method", name, ALL, where="--methods")
        grids = load_grids(options.tables, options.min_configs, options.left_out)
        if not grids:
            raise BadInput("no task in these tables has enough configs; lower --min-configs.")
    except (BadInput, OSError, KeyError) as error:
        print(f"sample_efficiency: {error}", file=sys.stderr)
        return 2
    jobs = [(grid, method, options.seeds) for method in methods for grid in grids]
    with ProcessPoolExecutor(options.jobs) as pool:
        rows = [row for part in pool.map(_work, jobs) for row in part]
    result = {**summarise(grids, rows), "curves": curves(grids, rows), "rows": rows}
    command = (
        "python analysis/sample_efficiency.py ../shared/data/*.csv --left-out model "
        f"--seeds {options.seeds} --write"
    )
    text = markdown(result, command)
    print(text)
    if options.json is not None:
        options.json.write_text(json.dumps(result) + "\n", encoding="utf-8")
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "sample_efficiency.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
        (RESULTS / "sample_efficiency.md").write_text(text, encoding="utf-8")
        plot(result, RESULTS / "sample_efficiency.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
