"""A measured table as a cluster: every config is one row, asking for it costs one trial.

What a search is told is what the table holds: step time and memory of a row that ran, out of
memory or a crash of unknown cause for one that failed. A config absent from the table is not
legal there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from calibrate import by_pair, fit_pairs, with_constants, with_pooled

from autotune.config import ParameterValue
from autotune.costmodel.measured import (
    CONFIG_KEY,
    TASK_KEY,
    MeasuredConfig,
    Row,
    Task,
    build_tasks,
    columns_of,
    number,
    read_rows,
)
from autotune.search.prior import CostPrior
from autotune.search.proposal import Proposer
from autotune.search.rows import FiniteRows
from autotune.trial import Interval, Measurement, Outcome, TrialRecord

START_S = 60.0
STEPS = 20
SEARCHED = (
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "virtual_pipeline_model_parallel_size",
    "context_parallel_size",
    "expert_model_parallel_size",
    "micro_batch_size",
    "zero_stage",
    "sequence_parallel",
    "recompute_granularity",
)
OUTCOMES = {"ok": Outcome.OK, "oom": Outcome.OOM_GPU}


@dataclass(frozen=True)
class Grid:
    """One task: its configs, their speeds, and the legal set that a search draws from.

    ``speed`` (n,) is steps per second, 0 for a row that failed; ``task`` is None where model or
    GPU is unknown, and the search goes without a prior.
    """

    name: str
    configs: tuple[MeasuredConfig, ...]
    legal: FiniteRows
    speed: npt.NDArray[np.float64]
    gpus: float
    tokens_per_step: float
    task: Task | None

    @property
    def best(self) -> float:
        """Steps per second of the fastest config."""
        return float(self.speed.max())

    def prior(self) -> CostPrior | None:
        """The cost model over this grid's rows, None where there is no cost model."""
        if self.task is None:
            return None
        return CostPrior.around(self.task.model.prepare(self.task.columns))

    def run(self, number_: int, row: int) -> TrialRecord:
        """What a trial of one row tells."""
        config = self.configs[row]
        outcome = OUTCOMES.get(config.status, Outcome.CRASH)
        measurement = None
        if outcome is Outcome.OK:
            time, rate = 1.0 / self.speed[row], self.tokens_per_step * self.speed[row]
            measurement = Measurement(
                Interval(time, time, time),
                Interval(rate, rate, rate),
                peak_memory_gib=config.memory_gib,
            )
        values = self.legal.config(row)
        return TrialRecord(
            number_, values.values, values.hash, outcome=outcome, measurement=measurement
        )

    def gpu_seconds(self, row: int) -> float:
        """What a trial of one row costs: a start, and its steps if it ran."""
        steps = STEPS / self.speed[row] if self.speed[row] > 0.0 else 0.0
        return self.gpus * (START_S + steps)


def load_grids(
    paths: Iterable[str | Path], least_configs: int, left_out: str | None = None
) -> list[Grid]:
    """The tasks of CSV files with enough configs, two of which ran.

    ``left_out`` is ``model`` or ``source``: constants are then fitted on the same files without
    the task's model or source; None takes those that ship.
    """
    every = read_rows(paths)
    rows = [timed for row in every if (timed := _timed(row)) is not None]
    tasks, _ = build_tasks(every)
    known = {task.key: task for task in build_tasks(rows)[0]}
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in TASK_KEY), []).append(row)
    records: dict[str, Any] = {}
    grids = []
    for key, members in groups.items():
        if len({tuple(row[k] for k in CONFIG_KEY) for row in members}) < least_configs:
            continue
        task = known.get(key)
        if task is not None and left_out is not None:
            name = key[TASK_KEY.index(left_out)]
            if name not in records:
                records[name] = _records_without(name, TASK_KEY.index(left_out), tasks)
            task = with_constants(task, records[name])
        grid = _grid(key, members, task)
        if (grid.speed > 0.0).sum() >= 2:
            grids.append(grid)
    return grids


def _timed(row: Row) -> Row | None:
    """A row with its step time; None where it ran and nothing says how fast: not to be replayed."""
    if row["status"] != "ok" or number(row["step_time_s"]):
        return row
    rate = number(row["tokens_per_s_per_gpu"])
    sizes = [number(row[name]) for name in ("gbs", "seq_len", "gpus")]
    if rate is None or None in sizes:
        return None if rate is None else row
    batch, length, gpus = (size or 1.0 for size in sizes)
    return {**row, "step_time_s": repr(batch * length / (rate * gpus))}


def _records_without(name: str, position: int, tasks: Sequence[Task]) -> dict[str, Any]:
    """Constants fitted to all tasks but those of one model or source.

    Other pairs of GPU and framework are fitted only where they must stand in for one that is
    left without any task.
    """
    touched = {task.pair for task in tasks if task.key[position] == name}
    rest = [t for t in tasks if t.key[position] != name]
    own = by_pair([t for t in rest if t.pair in touched])
    return dict(with_pooled(fit_pairs(own if touched <= set(own) else by_pair(rest))))


def _grid(key: tuple[str, ...], members: Sequence[Row], task: Task | None) -> Grid:
    gpus = number(members[0]["gpus"]) or 1.0
    if task is not None:
        timed = any(c.step_time_s for c in task.configs)
        configs, columns = task.configs if timed else _merged(members), task.columns
    else:
        configs = _merged(members)
        columns = columns_of([c.row for c in configs], int(gpus))
    batch, length = number(members[0]["gbs"]), number(members[0]["seq_len"])
    speed = np.array(
        [1.0 / c.step_time_s if c.status == "ok" and c.step_time_s else 0.0 for c in configs]
    )
    name = " / ".join(part for part in key if part)
    tokens = batch * length if batch and length else 1.0
    return Grid(name, configs, _legal(configs, columns), speed, gpus, tokens, task)


def _legal(configs: Sequence[MeasuredConfig], columns: Any) -> FiniteRows:
    """The configs under canonical names; the raw kernel text tells kernels apart."""
    rows: list[dict[str, ParameterValue]] = []
    seen: dict[tuple[ParameterValue, ...], int] = {}
    for at, config in enumerate(configs):
        values = {name: _plain(columns[name][at]) for name in SEARCHED}
        values["attention_backend"] = config.row["kernel/attention"] or None
        same = tuple(values.values())
        seen[same] = seen.get(same, 0) + 1
        values["variant"] = seen[same] if seen[same] > 1 else None
        rows.append(values)
    return FiniteRows(rows)


def _plain(value: object) -> ParameterValue:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (bool, int, float, str)) else None


def _merged(members: Sequence[Row]) -> tuple[MeasuredConfig, ...]:
    """Configs in the order of the file, timed by step time, else by tokens/s/GPU."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in members:
        groups.setdefault(tuple(row[k] for k in CONFIG_KEY), []).append(row)
    merged = []
    for rows in groups.values():
        good = [row for row in rows if row["status"] == "ok"]
        times = [t for t in (_seconds(row) for row in good) if t is not None]
        status = "ok" if good else rows[0]["status"]
        time = float(np.median(times)) if times else None
        memory = [m for m in (number(row["mem_gb"]) for row in good) if m is not None]
        peak = float(np.median(memory)) * 1e9 / 2**30 if memory else None
        merged.append(MeasuredConfig((good or rows)[0], status, time, peak, len(rows)))
    return tuple(merged)


def _seconds(row: Row) -> float | None:
    rate = number(row["tokens_per_s_per_gpu"])
    return number(row["step_time_s"]) or (1.0 / rate if rate else None)


@dataclass(frozen=True)
class Run:
    """One search over one grid: the rows in the order they were tried."""

    order: tuple[int, ...]


def replay(grid: Grid, proposer: Proposer, most: int | None = None) -> Run:
    """Asks until the best config was found, the proposer gives up or ``most`` trials were run."""
    history: list[TrialRecord] = []
    order: list[int] = []
    while len(order) < (most or len(grid.configs)):
        proposal = proposer.propose(history, [])
        if proposal is None:
            break
        order.append(proposal.index)
        history.append(grid.run(len(history), proposal.index))
        if grid.speed[proposal.index] >= grid.best:
            break
    return Run(tuple(order))


def whole(grid: Grid, proposer: Proposer) -> Run:
    """Asks until the search ends by itself."""
    history: list[TrialRecord] = []
    order: list[int] = []
    while proposer.finished(history) is None:
        proposal = proposer.propose(history, [])
        if proposal is None:
            break
        order.append(proposal.index)
        history.append(grid.run(len(history), proposal.index))
    return Run(tuple(order))


def stop(grid: Grid, proposer: Proposer) -> dict[str, float]:
    """When a search left to itself ends, and the share of the best speed it then misses."""
    order = whole(grid, proposer).order
    best = max((float(grid.speed[row]) for row in order), default=0.0)
    return {"trials": len(order), "regret": 1.0 - best / grid.best}


def score(grid: Grid, run: Run) -> dict[str, float]:
    """Trials and GPU-seconds to within 5, 2 and 0% of the best, failures on the way, regrets.

    A run that never gets there counts as table size + 1. Failures are those before it came
    within 2% of the best. Regret is the share of the best speed missed after so many trials.
    Rows of -1 are asks of an illegal config: a trial like any failure.
    """
    speeds = np.array([grid.speed[row] if row >= 0 else 0.0 for row in run.order])
    reached = np.maximum.accumulate(speeds) if len(speeds) else np.zeros(1)
    figures: dict[str, float] = {}
    spent = np.cumsum([grid.gpu_seconds(row) if row >= 0 else 0.0 for row in run.order])
    for name, share in (("5pct", 0.05), ("2pct", 0.02), ("best", 0.0)):
        hit = np.flatnonzero(speeds >= grid.best * (1.0 - share) * (1.0 - 1e-12))
        trials = int(hit[0]) + 1 if len(hit) else len(grid.configs) + 1
        figures[f"trials_to_{name}"] = trials
        figures[f"gpu_seconds_to_{name}"] = float(spent[min(trials, len(spent)) - 1])
    way = run.order[: int(figures["trials_to_2pct"])]
    statuses = [grid.configs[row].status if row >= 0 else "illegal" for row in way]
    figures["oom_trials"] = statuses.count("oom")
    figures["fail_trials"] = sum(status not in ("ok", "oom") for status in statuses)
    figures["failed_trials"] = figures["oom_trials"] + figures["fail_trials"]
    for count in (5, 10, 20):
        figures[f"regret_{count}"] = 1.0 - float(reached[min(count, len(reached)) - 1]) / grid.best
    return figures
