"""Fits the cost model's constants per (GPU, framework) to measured tables, and cross-validates.

    python analysis/calibrate.py ../shared/data/*.csv                 writes fitted.yaml
    python analysis/calibrate.py ../shared/data/*.csv --cross-validate

A handful of named log-space constants per pair, by the same MAP fit that runs online in a
study. Each is shipped with its width: what the fit leaves open plus what differs between
clusters. Cross-validation leaves out one model at a time, and one source at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from cost_model_scores import TaskScore, score_task, summarise

from autotune.costmodel.calibrator import Calibrator, Observation
from autotune.costmodel.constants import (
    DEVICE_CONSTANTS,
    NAMES,
    TIME_CONSTANTS,
    Constants,
    constants_from,
    fitted_record,
    nominal,
)
from autotune.costmodel.measured import Task, build_tasks, read_rows
from autotune.costmodel.table import CostTable

ROOT = Path(__file__).resolve().parent.parent
FITTED = ROOT / "autotune" / "costmodel" / "fitted.yaml"
RESULTS = ROOT / "analysis" / "results"
NEAR, MOST_PER_TASK, ROUNDS = 30.0, 150, 3
BETWEEN = 0.25
"""Share of a constant's wide prior kept as width: clusters of one kind differ that much."""

EFFECTIVE_ROWS, LEAST_ROWS = 5, 25
"""Rows of one task err together: this many of them weigh against the prior."""

LEAST_TIME_SIGMA = 0.06
"""One run in ten is off by 15% for reasons no config tells: no single step time is surer than this,
or the first trials of a study teach noise."""

MEASURED_WIDTHS = {"matmul": 0.08, "attention": 0.25, "memory_bound": 0.2, "tensor_parallel": 0.4}
"""Tighter than for an unknown machine: the nominal efficiencies were measured on an H200
(analysis/results/cost_model_h200_bench.json, by runners/bench_hardware/bench.py)."""

SHIPPED = tuple(name for name in NAMES if name != "pace")
"""A pace is a study's own: what is fitted here holds for every cluster of the pair."""

Records = dict[str, dict[str, Any]]


def observations_of(task: Task) -> list[Observation]:
    """What a task teaches: steps within NEAR of its best, memory and OOM of all its rows."""
    times = [c.step_time_s for c in task.configs if c.status == "ok" and c.step_time_s]
    limit = NEAR * min(times) if times else 0.0
    found = []
    for i, config in enumerate(task.configs):
        ok = config.status == "ok"
        step = config.step_time_s if ok and config.step_time_s else None
        step = step if step is not None and step <= limit else None
        memory = config.memory_gib if ok else None
        oom = config.status == "oom"
        if step or memory or oom:
            found.append(Observation(i, step, memory, oom))
    if len(found) <= MOST_PER_TASK:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, MOST_PER_TASK).astype(int)]


def fit_tasks(tasks: Sequence[Task], start: Constants) -> Constants:
    """MAP constants of tasks that share GPU and framework, around ``start``'s means."""
    seen = sum(len(observations_of(task)) for task in tasks)
    narrow = np.sqrt(min(1.0, max(EFFECTIVE_ROWS * len(tasks), LEAST_ROWS) / seen))
    widths = np.array(
        [MEASURED_WIDTHS.get(name, w) for name, w in zip(NAMES, nominal().sigma, strict=True)]
    )
    prior = replace(
        nominal(), mean=start.mean, sigma=widths * narrow,
        time_sigma=0.06, memory_sigma=0.06,
    )  # fmt: skip
    current = prior
    for _ in range(ROUNDS):
        tables, seen, offset = [], [], 0
        for task in tasks:
            table = replace(task.model, constants=current).prepare(task.columns)
            seen += [replace(o, row=o.row + offset) for o in observations_of(task)]
            tables.append(table)
            offset += len(table)
        joined = CostTable.joined(tables)
        fit = Calibrator(joined, prior, most=None, tail=1.0, own_pace=False).fit(seen)
        current = fit.constants
    return current


def scatter(fit: Constants, tasks: Sequence[Task]) -> tuple[float, float]:
    """Robust log-space residuals of (step time near the best, memory): 1.48 * median."""
    steps, memory = [], []
    for task in tasks:
        table = replace(task.model, constants=fit).prepare(task.columns)
        time, shown = table.step_time(fit.mean), table.allocated(fit.mean)
        times = [c.step_time_s for c in task.configs if c.status == "ok" and c.step_time_s]
        for i, config in enumerate(task.configs):
            if config.status == "ok" and config.memory_gib:
                memory.append(abs(np.log(shown[i] / config.memory_gib)))
            if config.step_time_s and config.step_time_s <= 2.0 * min(times, default=0.0):
                steps.append(abs(np.log(time[i] / config.step_time_s)))
    return tuple(
        float(np.clip(1.48 * np.median(v), least, 0.4)) if len(v) >= 8 else 0.1
        for v, least in ((steps, LEAST_TIME_SIGMA), (memory, 0.04))
    )  # type: ignore[return-value]


def record_of(fit: Constants, tasks: Sequence[Task]) -> dict[str, Any]:
    """One entry of fitted.yaml: means, widths, residuals and where they came from."""
    wide = nominal().sigma
    sigma = np.sqrt(fit.sigma**2 + (BETWEEN * wide) ** 2)
    rows = sum(len(observations_of(task)) for task in tasks)
    sources = sorted({task.key[0] for task in tasks})
    time_sigma, memory_sigma = scatter(fit, tasks)
    return {
        "origin": f"{rows} rows of {len(tasks)} tasks: {'; '.join(sources)}",
        "bf16_tflops": tasks[0].model.hardware.tflops.get("bf16"),
        "rows": rows,
        "time_sigma": round(time_sigma, 4),
        "memory_sigma": round(memory_sigma, 4),
        "constants": {
            name: {"mean": round(float(m), 4), "sigma": round(float(min(s, w)), 4)}
            for name, m, s, w in zip(NAMES, fit.mean, sigma, wide, strict=True)
            if name in SHIPPED
        },
    }


def pooled(
    records: Sequence[dict[str, Any]], origin: str, one_chip: bool = False
) -> dict[str, Any]:
    """Median of several fits; the width is their spread, within bounds of the wide prior's."""
    wide = dict(zip(NAMES, nominal().sigma, strict=True))
    constants = {}
    for name in SHIPPED:
        means = np.array([r["constants"][name]["mean"] for r in records])
        inner = np.mean([r["constants"][name]["sigma"] ** 2 for r in records])
        spread = float(np.sqrt(means.var() + inner)) if len(records) > 1 else wide[name]
        least = wide[name] * (1.0 if name in DEVICE_CONSTANTS and not one_chip else 0.6)
        sigma = max(least, min(spread, 1.5 * wide[name]))
        constants[name] = {
            "mean": round(float(np.median(means)), 4),
            "sigma": round(float(sigma), 4),
        }
    return {"origin": origin, "time_sigma": 0.1, "memory_sigma": 0.1, "constants": constants}


def by_pair(tasks: Sequence[Task]) -> dict[str, list[Task]]:
    """Tasks worth fitting to, by ``GPU/FRAMEWORK``: batch and model are known, not assumed."""
    pairs: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        if not {"gbs", "model", "gpu"} & set(task.assumed) and observations_of(task):
            pairs[task.pair].append(task)
    return pairs


def fit_pairs(pairs: dict[str, list[Task]]) -> Records:
    """One record per ``GPU/FRAMEWORK``."""
    return {pair: record_of(fit_tasks(tasks, nominal()), tasks) for pair, tasks in pairs.items()}


def with_pooled(records: Records) -> Records:
    """The records, and pooled ones for a GPU or a framework never seen."""
    by_framework: dict[str, list[dict[str, Any]]] = defaultdict(list)
    by_chip: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for pair, record in records.items():
        by_framework[pair.split("/")[1]].append(record)
        by_chip[record["bf16_tflops"]].append(record)
    whole = {
        f"any/{name}": pooled(rs, f"median of {len(rs)} GPUs") for name, rs in by_framework.items()
    }
    for rate, rs in by_chip.items():
        chip = pooled(rs, f"median of {len(rs)} frameworks", one_chip=True)
        chip["constants"] = {k: v for k, v in chip["constants"].items() if k in DEVICE_CONSTANTS}
        whole[f"{rate:g}/any"] = chip
    everything = [r for r in records.values() if r["rows"] >= 8]
    if everything:
        known = pooled(everything, f"median of {len(everything)} pairs")
        # What a framework keeps in memory says nothing about another one.
        times = {k: v for k, v in known["constants"].items() if k in TIME_CONSTANTS}
        known["constants"] = times
        whole["any/any"] = known
    return {**records, **whole}


def with_constants(task: Task, records: Records) -> Task:
    """The task predicted with given records instead of the shipped ones."""
    record = fitted_record(task.model.hardware, task.framework, records)
    return replace(task, model=replace(task.model, constants=constants_from(record)))


def cross_validate(tasks: Sequence[Task]) -> dict[str, Any]:
    """Scores of every task with constants that never saw its model, or never saw its source."""
    out: dict[str, Any] = {}
    whole = fit_pairs(by_pair(tasks))
    for kind, position in (("model", 1), ("source", 0)):
        scores: dict[str, list[TaskScore]] = defaultdict(list)
        for left_out in dict.fromkeys(task.key[position] for task in tasks):
            mine = [task for task in tasks if task.key[position] == left_out]
            touched = {task.pair for task in mine}
            rest = [t for t in tasks if t.pair in touched and t.key[position] != left_out]
            records = {pair: record for pair, record in whole.items() if pair not in touched}
            records = with_pooled({**records, **fit_pairs(by_pair(rest))})
            for task in mine:
                scores[task.key[0]].append(score_task(with_constants(task, records)))
        every = [score for group in scores.values() for score in group]
        out[f"left_out_{kind}"] = {
            "overall": summarise(every),
            "by_source": {name: summarise(group) for name, group in scores.items()},
            "tasks": [s.as_dict() for s in every if len(s.task.configs) >= 3],
        }
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and write, or cross-validate and print; exit status 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", help="CSV files in the form of shared/data")
    parser.add_argument("--output", type=Path, default=FITTED)
    parser.add_argument("--cross-validate", action="store_true")
    options = parser.parse_args(arguments)
    tasks, skipped = build_tasks(read_rows(options.tables))
    print(
        f"{len(tasks)} tasks, {len(skipped)} groups without a known model or GPU", file=sys.stderr
    )
    if options.cross_validate:
        result = cross_validate(tasks)
        RESULTS.mkdir(parents=True, exist_ok=True)
        target = RESULTS / "cost_model_cross_validation.json"
        target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        for kind, part in result.items():
            for name, figures in {**part["by_source"], "all": part["overall"]}.items():
                print(kind, name, json.dumps(figures))
        return 0
    header = (
        "# Constants by (GPU, framework): log-space multipliers on nominal physics, written by\n"
        "# `python analysis/calibrate.py TABLES`. Keys: GPU/FRAMEWORK, any/FRAMEWORK, and\n"
        "# BF16_TFLOPS/any for a chip under a framework never seen; any/any for neither.\n"
    )
    text = yaml.safe_dump(
        {"fits": with_pooled(fit_pairs(by_pair(tasks)))}, sort_keys=False, width=100
    )
    options.output.write_text(header + text, encoding="utf-8")
    print(f"wrote {options.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
