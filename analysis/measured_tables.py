"""Reads tables of measured training runs, so that every program scores the same tasks and configs.

A task is one source, model, gpu, gpus, seq_len and gbs; a config within it is one setting of
the columns in ``CONFIG_COLUMNS``. Repeated rows become one: the median of the successes, a
failure only when all of them failed.
"""

from __future__ import annotations

import csv
import math
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from autotune.config import ParameterValue
from autotune.errors import BadInput

TASK_COLUMNS = ("source", "model", "gpu", "gpus", "seq_len", "gbs")
CONFIG_COLUMNS = (
    "tp",
    "pp",
    "cp",
    "ep",
    "vpp",
    "dp",
    "zero_or_fsdp",
    "mbs",
    "recompute",
    "seq_parallel",
    "kernel/attention",
)
MEASURED_COLUMNS = ("step_time_s", "tokens_per_s_per_gpu", "tflops_per_gpu", "mfu", "mem_gb")

CANONICAL = {
    "tp": "tensor_model_parallel_size",
    "pp": "pipeline_model_parallel_size",
    "cp": "context_parallel_size",
    "ep": "expert_model_parallel_size",
    "vpp": "virtual_pipeline_model_parallel_size",
    "dp": "data_parallel_size",
    "mbs": "micro_batch_size",
    "zero_or_fsdp": "zero_stage",
    "recompute": "recompute_granularity",
    "seq_parallel": "sequence_parallel",
    "kernel/attention": "attention_backend",
}


@dataclass(frozen=True)
class Row:
    """One config of a task: ``status`` is ok, oom or fail (or blank where nothing ran).

    ``config`` is the raw text of ``CONFIG_COLUMNS``, ``raw`` the first of the merged rows,
    figures are medians over the successes (seconds, tokens/s, 1e9 bytes), None where unstated.
    """

    config: tuple[str, ...]
    status: str
    raw: Mapping[str, str]
    repeats: int = 1
    step_time_s: float | None = None
    tokens_per_s_per_gpu: float | None = None
    tflops_per_gpu: float | None = None
    mfu: float | None = None
    mem_gb: float | None = None

    @property
    def values(self) -> dict[str, ParameterValue]:
        """The config under canonical parameter names; None where the source is silent."""
        return {
            CANONICAL[c]: _value(c, text)
            for c, text in zip(CONFIG_COLUMNS, self.config, strict=True)
        }

    @property
    def speed(self) -> float | None:
        """What configs of one task are compared by: tokens/s/GPU, else steps per second."""
        if self.status != "ok":
            return None
        if self.tokens_per_s_per_gpu is not None:
            return self.tokens_per_s_per_gpu
        return 1.0 / self.step_time_s if self.step_time_s else None


@dataclass(frozen=True)
class Task:
    """All configs measured of one job on one cluster, in the order of the file."""

    key: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """The key as one line, for tables and JSON."""
        return " / ".join(self.key)

    @property
    def facts(self) -> Mapping[str, str]:
        """The raw columns of the first row: model shape, hardware, precision."""
        return self.rows[0].raw

    def fact(self, column: str) -> float | None:
        """A numeric fact of the task, the first that any row states."""
        return next(
            (n for n in (number(r.raw.get(column, "")) for r in self.rows) if n is not None), None
        )


def load_tasks(paths: Iterable[str | Path], min_configs: int = 1, min_ok: int = 1) -> list[Task]:
    """The tasks of CSV files with enough configs that ran; BadInput for an unreadable file."""
    groups: dict[tuple[str, ...], dict[tuple[str, ...], list[dict[str, str]]]] = {}
    for path in paths:
        for raw in _read(Path(path)):
            key = tuple(raw[c] for c in TASK_COLUMNS)
            config = tuple(raw[c] for c in CONFIG_COLUMNS)
            groups.setdefault(key, {}).setdefault(config, []).append(raw)
    tasks = [
        Task(key, tuple(_merged(config, rows) for config, rows in configs.items()))
        for key, configs in groups.items()
    ]
    return [
        task
        for task in tasks
        if len(task.rows) >= min_configs and sum(r.status == "ok" for r in task.rows) >= min_ok
    ]


def number(text: str) -> float | None:
    """A finite number, None for a blank or anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read(path: Path) -> list[dict[str, str]]:
    needed = {*TASK_COLUMNS, *CONFIG_COLUMNS, *MEASURED_COLUMNS, "status"}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = sorted(needed - set(reader.fieldnames or ()))
            if missing:
                raise BadInput(
                    f"{path}: not a table of measured runs, columns missing: {', '.join(missing)}. "
                    "The header of ../shared/data/README.md is expected."
                )
            return [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path}: cannot be read: {error}. Give a CSV file of measured runs."
        ) from error


def _merged(config: tuple[str, ...], rows: list[dict[str, str]]) -> Row:
    successes = [r for r in rows if r["status"] == "ok"]
    failures = {r["status"] for r in rows}
    status = "ok" if successes else "oom" if "oom" in failures else rows[0]["status"]
    figures = {}
    for column in MEASURED_COLUMNS:
        told = [n for n in (number(r[column]) for r in successes or rows) if n is not None]
        figures[column] = statistics.median(told) if told else None
    return Row(config, status, (successes or rows)[0], len(rows), **figures)


def _value(column: str, text: str) -> ParameterValue:
    if not text:
        return None
    lowered = text.lower()
    if column == "zero_or_fsdp":
        return _zero_stage(lowered)
    if column == "recompute":
        return next((g for g in ("full", "selective") if lowered.startswith(g)), "none")
    if column == "seq_parallel":
        return lowered.startswith("true")
    if column == "kernel/attention":
        return text
    value = number(text)
    return text if value is None else int(value)


def _zero_stage(text: str) -> int:
    """ZeRO stage that a sharding label amounts to: FSDP is stage 3, SHARD_GRAD_OP stage 2."""
    stage = re.search(r"zero[-_ ]?(\d)", text)
    if stage:
        return int(stage.group(1))
    if "shard_grad_op" in text:
        return 2
    return 3 if "fsdp" in text else 0
