"""How a predicted task is scored: memory, out-of-memory, time, rank and regret.

One definition for the accuracy report and for cross-validation. Step-time errors are over
configs within a factor two of the task's best; observed points are left out of their score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from autotune.costmodel.calibrator import Calibrator, Observation
from autotune.costmodel.measured import TASK_KEY, Task, memory_unit
from autotune.costmodel.table import Costs

Floats = npt.NDArray[np.float64]
NEAR = 2.0
OBSERVED = (3, 10)
METRICS = (
    "memory_mape", "memory_bias", "oom_accuracy", "oom_precision", "oom_recall", "spearman",
    "spearman_near", "rank_of_best", "regret_top1", "regret_top3", "regret_top5",
    "step_time_mape_raw", "step_time_mape_after_3", "step_time_mape_after_10",
)  # fmt: skip


@dataclass(frozen=True)
class TaskScore:
    """A task's figures (None where the task cannot tell) and its predictions."""

    task: Task
    figures: dict[str, float | None]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, without the rows."""
        return {
            "task": self.task.name,
            "source": self.task.key[0],
            "model": self.task.key[1],
            "gpu": self.task.key[2],
            "framework": self.task.framework,
            "constants": self.task.model.constants.origin,
            "assumed": list(self.task.assumed),
            "configs": len(self.task.configs),
            **self.figures,
        }


def score_task(task: Task) -> TaskScore:
    """Score one task with the constants its model holds."""
    table = task.model.prepare(task.columns)
    costs = table.predict()
    nan = float("nan")
    time = np.array(
        [c.step_time_s if c.status == "ok" and c.step_time_s else nan for c in task.configs]
    )
    memory = np.array(
        [c.memory_gib if c.status == "ok" and c.memory_gib else nan for c in task.configs]
    )
    fits = costs.probability_fits(task.model.capacity_gib)
    figures: dict[str, float | None] = dict.fromkeys(METRICS)
    figures.update(_memory_figures(memory, costs.allocated_gib))
    figures.update(_oom_figures([c.status for c in task.configs], fits))
    figures.update(_order_figures(time, costs.step_time_s))
    figures["step_time_mape_raw"] = _near_error(time, costs.step_time_s, np.isfinite(time))
    after: dict[int, Floats] = {}
    calibrator = Calibrator(table)
    for count in OBSERVED:
        seen = _predicted_top(time, costs.step_time_s, count)
        left = np.isfinite(time)
        left[seen] = False
        fit = calibrator.fit([Observation(int(i), float(time[i]), _known(memory[i])) for i in seen])
        after[count] = table.step_time(fit.constants.mean)
        if left.any():
            figures[f"step_time_mape_after_{count}"] = _near_error(time, after[count], left)
    figures = {k: v if v is not None and np.isfinite(v) else None for k, v in figures.items()}
    return TaskScore(task, figures, _rows(task, costs, fits, after))


def _rows(task: Task, costs: Costs, fits: Floats, after: dict[int, Floats]) -> list[dict[str, Any]]:
    """Each config with what was measured and predicted, so that anyone can score again."""
    unit = memory_unit(task.framework)
    return [
        {
            "task": task.name,
            **dict(zip(TASK_KEY, task.key, strict=True)),
            "config": {key: config.row[key] for key in _SHOWN},
            "status": config.status,
            "predicted_oom": bool(fits[i] < 0.5),
            "step_time_s": config.step_time_s,
            "predicted_step_time_s": float(costs.step_time_s[i]),
            "predicted_step_time_after_3_s": float(after[3][i]),
            "predicted_step_time_after_10_s": float(after[10][i]),
            "step_time_sigma": float(costs.time_sigma[i]),
            "mem_gb": config.memory_gib and config.memory_gib / unit,
            "predicted_mem_gb": float(costs.allocated_gib[i]) / unit,
            "memory_gib": config.memory_gib,
            "predicted_memory_gib": float(costs.allocated_gib[i]),
            "predicted_device_memory_gib": float(costs.memory_gib[i]),
            "memory_sigma": float(costs.memory_sigma[i]),
            "probability_fits": float(fits[i]),
        }
        for i, config in enumerate(task.configs)
    ]


_SHOWN = (
    "tp", "pp", "cp", "ep", "vpp", "dp", "zero_or_fsdp", "mbs", "recompute", "seq_parallel",
    "kernel/attention", "precision",
)  # fmt: skip


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _predicted_top(time: Floats, predicted: Floats, count: int) -> list[int]:
    """Rows of the ``count`` measured configs that were predicted fastest."""
    order = [int(i) for i in np.argsort(predicted) if np.isfinite(time[i])]
    return order[:count]


def _near_error(time: Floats, predicted: Floats, rows: npt.NDArray[np.bool_]) -> float | None:
    if not np.isfinite(time).any():
        return None
    near = rows & (time <= NEAR * np.nanmin(time))
    if not near.any():
        return None
    return float(np.mean(np.abs(predicted[near] / time[near] - 1.0)))


def _memory_figures(memory: Floats, predicted: Floats) -> dict[str, float | None]:
    known = np.isfinite(memory)
    if not known.any():
        return {}
    error = predicted[known] / memory[known] - 1.0
    return {"memory_mape": float(np.abs(error).mean()), "memory_bias": float(error.mean())}


def _oom_figures(status: Sequence[str], fits: Floats) -> dict[str, float | None]:
    """Only tasks that record ``oom`` count, and there only ok and oom rows."""
    true = np.array([s == "oom" for s in status])
    if not true.any():
        return {}
    judged = np.array([s in ("ok", "oom") for s in status])
    said = fits < 0.5
    hits = float((said & true & judged).sum())
    return {
        "oom_accuracy": float((said == true)[judged].mean()),
        "oom_precision": hits / max(float((said & judged).sum()), 1.0),
        "oom_recall": hits / float((true & judged).sum()),
    }


def _order_figures(time: Floats, predicted: Floats) -> dict[str, float | None]:
    known = np.flatnonzero(np.isfinite(time))
    if len(known) < 3:
        return {}
    measured, order = time[known], np.argsort(predicted[known])
    best = float(measured.min())
    near = measured <= NEAR * best
    figures: dict[str, float | None] = {
        "spearman": float(spearmanr(measured, predicted[known]).statistic),
        "rank_of_best": float(np.flatnonzero(measured[order] == best)[0] + 1),
    }
    if near.sum() >= 3:
        figures["spearman_near"] = float(
            spearmanr(measured[near], predicted[known][near]).statistic
        )
    for top in (1, 3, 5):
        figures[f"regret_top{top}"] = float(measured[order[:top]].min() / best - 1.0)
    return figures


def summarise(scores: Sequence[TaskScore]) -> dict[str, float | None]:
    """Each figure's median over the tasks that have it; the share with the best in the top 5."""
    overall: dict[str, float | None] = {}
    for name in METRICS:
        values = [v for s in scores if (v := s.figures.get(name)) is not None and np.isfinite(v)]
        overall[name] = float(np.median(values)) if values else None
    ranks = [r for s in scores if (r := s.figures.get("rank_of_best")) is not None]
    overall["best_in_top5"] = float(np.mean([r <= 5 for r in ranks])) if ranks else None
    overall["tasks"] = float(len(scores))
    return overall
