"""Measured tables of others, in the one CSV form of this project, as tasks for the cost model.

A task is one (source, model, gpu, gpus, seq_len, gbs); a config is one layout within it.
Repeated rows count as the median of their successes, and as a failure only if all failed.
Nothing is looked up by config; an unstated size is filled from the architecture's name, from
its parameter count, or from the framework's defaults, and noted in ``Task.assumed``.
"""

from __future__ import annotations

import csv
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from autotune.costmodel.architectures import shape_for_row
from autotune.costmodel.columns import Columns
from autotune.costmodel.constants import NAMES, Constants
from autotune.costmodel.hardware import hardware_for_gpu, nearest_hardware
from autotune.costmodel.layout import MATMUL_KINDS
from autotune.costmodel.model import CostModel
from autotune.costmodel.workload import Workload, normal_precision
from autotune.errors import AutotuneError
from autotune.space.cluster import Cluster, Hardware

Row = dict[str, str]
TASK_KEY = ("source", "model", "gpu", "gpus", "seq_len", "gbs")
CONFIG_KEY = (
    "tp", "pp", "cp", "ep", "vpp", "dp", "zero_or_fsdp", "mbs", "recompute", "seq_parallel",
    "kernel/attention",
)  # fmt: skip
COLUMNS = (
    *TASK_KEY, *CONFIG_KEY, "source_path", "params_b", "layers", "hidden", "heads", "kv_heads",
    "ffn", "vocab", "gpu_mem_gb", "nodes", "precision", "step_time_s", "tokens_per_s_per_gpu",
    "mem_gb", "status", "note",
)  # fmt: skip
_ADAPTER_SHARE = 0.003
_UNKNOWN_GPU_WIDTH = 1.0
"""Log-space width of the compute and memory rates of a GPU that no hardware file describes."""
_FRAMEWORKS = (
    ("ultrascale", "nanotron"), ("nanotron", "nanotron"), ("hagemann", "aleph-alpha"),
    ("aleph", "aleph-alpha"), ("llm-foundry", "llm-foundry"), ("mosaic", "llm-foundry"),
    ("torchtitan", "torchtitan"), ("megatron-bridge", "megatron-bridge"),
    ("nemo", "megatron-bridge"), ("golden", "megatron-ci"), ("korthikanti", "megatron"),
    ("sailor", "sailor"), ("primus", "primus"), ("deepspeed", "deepspeed"),
    ("megatron", "megatron"), ("neox", "megatron"), ("fsdp", "fsdp"), ("fms", "fsdp"),
    ("accelerate", "hf"), ("transformers", "hf"), ("autotune,", "torch"),
)  # fmt: skip


@dataclass(frozen=True)
class MeasuredConfig:
    """One layout of a task and what was measured of it; None where nothing was.

    ``memory_gib`` is in GiB whatever unit the source printed; ``status`` is ok, oom or fail.
    """

    row: Row
    status: str
    step_time_s: float | None
    memory_gib: float | None
    repeats: int


@dataclass(frozen=True)
class Task:
    """All configs of one job on one cluster, with the model that predicts them."""

    key: tuple[str, ...]
    framework: str
    configs: tuple[MeasuredConfig, ...]
    model: CostModel
    columns: Columns
    assumed: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """Readable: source first, then what distinguishes the task within it."""
        return " / ".join(part for part in self.key if part)

    @property
    def pair(self) -> str:
        """``GPU/FRAMEWORK``: what constants are fitted for."""
        return f"{self.model.hardware.name}/{self.framework}"


def read_rows(paths: Iterable[str | Path]) -> list[Row]:
    """All rows of CSV files with the common header, in order; absent columns count as blank."""
    rows: list[Row] = []
    for path in paths:
        with Path(path).open(newline="", encoding="utf-8-sig") as lines:
            rows += [_complete(row) for row in csv.DictReader(lines)]
    return rows


def _complete(row: Mapping[str | None, object]) -> Row:
    """One row with every column this file reads, blanks where the table has none."""
    cells = {k: v.strip() if isinstance(v, str) else "" for k, v in row.items() if k is not None}
    known = {**dict.fromkeys(COLUMNS, ""), **cells}
    known["status"] = known["status"].lower()
    return known


def framework_of(row: Row) -> str:
    """The framework that a row's source names; ``fsdp`` or ``generic`` when it names none."""
    for text in (row["source"].lower(), row.get("source_path", "").lower(), row["note"].lower()):
        for mark, name in _FRAMEWORKS:
            if mark in text:
                return name
    return "fsdp" if "fsdp" in row["zero_or_fsdp"].lower() else "generic"


def build_tasks(rows: Iterable[Row]) -> tuple[list[Task], list[str]]:
    """(tasks, reasons for the groups that cannot be predicted), in order of appearance."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in TASK_KEY), []).append(row)
    tasks, skipped = [], []
    for key, members in groups.items():
        try:
            tasks.append(_build_task(key, members))
        except (AutotuneError, LookupError, ValueError, ZeroDivisionError) as error:
            skipped.append(f"{' / '.join(key)}: {error}")
    return tasks, skipped


def _build_task(key: tuple[str, ...], members: Sequence[Row]) -> Task:
    first = min(members, key=lambda row: number(row["pp"]) or 1.0)
    framework = framework_of(first)
    shape, assumed = shape_for_row(first)
    hardware, known = _hardware(first)
    assumed = assumed if known else (*assumed, "gpu")
    configs = _configs(members, framework)
    gpus = int(number(first["gpus"]) or max(_layout_gpus(c.row) for c in configs))
    per_node = min(gpus, hardware.gpus_per_node)
    if number(first["nodes"]):
        per_node = max(1, min(gpus, round(gpus / float(first["nodes"]))))
    seq = int(number(first["seq_len"]) or 0)
    if not seq:
        seq, assumed = 4096, (*assumed, "seq_len")
    batch = number(first["gbs"])
    if not batch:
        batch, assumed = gpus * 4.0, (*assumed, "gbs")
    precision = normal_precision(first["precision"] or "bf16")
    if precision not in MATMUL_KINDS and precision not in ("fp8", "fp4"):
        precision, assumed = "bf16", (*assumed, "precision")
    workload = Workload(
        int(batch), seq, precision, "adam", framework,
        _ADAPTER_SHARE if "lora" in first["note"].lower() else 1.0,
    )  # fmt: skip
    cluster = Cluster(nodes=-(-gpus // per_node), gpus_per_node=per_node, hardware=hardware)
    model = CostModel(shape, cluster, workload)
    if not known:
        model = replace(model, constants=_unsure(model.constants))
    columns = columns_of([c.row for c in configs], gpus)
    if "precision" in assumed:
        columns = {**columns, "precision": np.full(len(configs), precision, dtype=object)}
    return Task(key, framework, configs, model, columns, assumed)


def _hardware(row: Row) -> tuple[Hardware, bool]:
    """(the hardware of a row, whether a file describes it); LookupError when no GPU is named.

    A GPU without a file takes the one of the nearest memory, with the memory stated.
    """
    memory = number(row["gpu_mem_gb"])
    try:
        return hardware_for_gpu(row["gpu"], memory), True
    except LookupError:
        if not row["gpu"] or memory is None:
            raise
    nearest = nearest_hardware(memory)
    return nearest.model_copy(update={"name": "unknown", "memory_gib": memory}), False


def _unsure(constants: Constants) -> Constants:
    """The same constants with rates so wide that the bands say: this GPU is not known."""
    sigma = constants.sigma.copy()
    for name in ("matmul", "attention", "memory_bound"):
        sigma[NAMES.index(name)] = _UNKNOWN_GPU_WIDTH
    return replace(constants, sigma=sigma, origin=f"unknown GPU; {constants.origin}")


def _configs(members: Sequence[Row], framework: str) -> tuple[MeasuredConfig, ...]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in members:
        groups.setdefault(tuple(row[k] for k in CONFIG_KEY), []).append(row)
    unit = memory_unit(framework)
    configs = []
    for rows in groups.values():
        good = [r for r in rows if r["status"] == "ok"]
        times = [t for r in good if (t := _step_time(r))]
        memory = [m * unit for r in good if (m := number(r["mem_gb"]))]
        status = "ok" if good else rows[0]["status"]
        configs.append(
            MeasuredConfig(
                (good or rows)[0],
                status,
                statistics.median(times) if times else None,
                statistics.median(memory) if memory else None,
                len(rows),
            )
        )
    return tuple(configs)


def _step_time(row: Row) -> float | None:
    """Seconds of a step, as stated or from tokens/s/GPU; None where neither is."""
    stated = number(row["step_time_s"])
    parts = [number(row[k]) for k in ("gbs", "seq_len", "tokens_per_s_per_gpu", "gpus")]
    if stated or None in parts:
        return stated
    batch, length, rate, gpus = (part or 1.0 for part in parts)
    return batch * length / (rate * gpus)


def memory_unit(framework: str) -> float:
    """GiB in one unit of a table's ``mem_gb``: nanotron prints GiB, the others 1e9 bytes."""
    return 1.0 if framework == "nanotron" else 1e9 / 2**30


def number(text: str) -> float | None:
    """A cell as a number; None where it is blank, no number, infinite, or not above zero."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 < value < math.inf else None


def _layout_gpus(row: Row) -> float:
    sizes = [number(row[k]) or 1.0 for k in ("tp", "pp", "cp", "dp")]
    return float(np.prod(sizes))


def columns_of(rows: Sequence[Row], gpus: int) -> Columns:
    """Canonical columns of table rows; blank cells become None and take defaults."""
    sizes = {
        "tp": "tensor_model_parallel_size", "pp": "pipeline_model_parallel_size",
        "cp": "context_parallel_size", "ep": "expert_model_parallel_size",
        "vpp": "virtual_pipeline_model_parallel_size", "dp": "data_parallel_size",
        "mbs": "micro_batch_size",
    }  # fmt: skip
    columns: dict[str, list[object]] = {
        name: [number(row[short]) for row in rows] for short, name in sizes.items()
    }
    for i, row in enumerate(rows):
        if columns["data_parallel_size"][i] is None:
            rest = _layout_gpus({**row, "dp": ""})
            columns["data_parallel_size"][i] = max(gpus / rest, 1.0)
    columns["zero_stage"] = [_zero(row["zero_or_fsdp"]) for row in rows]
    columns["sequence_parallel"] = [_flag(row["seq_parallel"]) for row in rows]
    for name in ("recompute_granularity", "recompute_num_layers"):
        columns[name] = [_recompute(row["recompute"])[name] for row in rows]
    columns["precision"] = [row["precision"] or None for row in rows]
    kernels = [_kernels(row["kernel/attention"], row["note"]) for row in rows]
    for name in ("attention_backend", "torch_compile", "fused_normalization", "pipeline_schedule",
                 "tp_comm_overlap", "overlap_grad_reduce"):  # fmt: skip
        columns[name] = [k.get(name) for k in kernels]
    return {name: np.array(values, dtype=object) for name, values in columns.items()}


def _zero(text: str) -> int | None:
    lower = text.lower()
    if match := re.search(r"zero[-_ ]?(?:stage)?[-_ ]?(\d)", lower):
        return int(match.group(1))
    if "grad_op" in lower:
        return 2
    if "no_shard" in lower or lower in ("none", "ddp", "dp"):
        return 0
    return 3 if "fsdp" in lower or "shard" in lower else None


def _flag(text: str) -> bool | None:
    return text.lower().startswith(("true", "yes", "1")) if text else None


def _recompute(text: str) -> dict[str, object]:
    lower = text.lower()
    kind: str | None = None
    if lower.startswith(("full", "true", "block", "uniform", "yes", "every")):
        kind = "full"
    elif lower.startswith("sel"):
        kind = "selective"
    elif lower:
        kind = "none"
    layers = re.search(r"(?:uniform|block)\D*(\d+)", lower)
    return {
        "recompute_granularity": kind,
        "recompute_num_layers": int(layers.group(1)) if layers else None,
    }


def _kernels(text: str, note: str) -> dict[str, object]:
    lower = text.lower()
    found: dict[str, object] = {}
    if re.search(r"flash\D*1", lower):
        found["attention_backend"] = "flash1"
    elif "flash" in lower or "sdpa" in lower or "cudnn" in lower:
        found["attention_backend"] = "flash"
    elif re.search(r"\b(torch|unfused|eager|math|naive)\b(?!\.)", lower):
        found["attention_backend"] = "unfused"
    elif re.search(r"\b(fused|local)\b", lower):
        found["attention_backend"] = "fused_softmax"
    if "compile" in lower:
        found["torch_compile"] = True
    if "rms" in lower:
        found["fused_normalization"] = True
    if "async" in lower or '"tp-comm-overlap": true' in note:
        found["tp_comm_overlap"] = True
    if match := re.search(r"pp-schedule=([\w-]+)", lower):
        found["pipeline_schedule"] = match.group(1)
    if "golden" in note or "opts={" in note:
        found["overlap_grad_reduce"] = '"overlap-grad-reduce": true' in note
    return found
