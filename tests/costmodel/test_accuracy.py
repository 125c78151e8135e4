"""The accuracy report on a small table of our own, whose truth is known."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.content import find_content
from autotune.costmodel.measured import Row, build_tasks, framework_of, read_rows

COLUMNS = [
    "source",
    "source_path",
    "model",
    "params_b",
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "ffn",
    "vocab",
    "seq_len",
    "gpu",
    "gpu_mem_gb",
    "nodes",
    "gpus",
    "tp",
    "pp",
    "cp",
    "ep",
    "vpp",
    "dp",
    "zero_or_fsdp",
    "mbs",
    "gbs",
    "recompute",
    "seq_parallel",
    "kernel/attention",
    "precision",
    "step_time_s",
    "tokens_per_s_per_gpu",
    "tflops_per_gpu",
    "mfu",
    "mem_gb",
    "status",
    "note",
]
JOB = {
    "source": "our cluster", "model": "llama-8b", "params_b": "8.03", "layers": "32",
    "hidden": "4096", "heads": "32", "kv_heads": "8", "ffn": "14336", "vocab": "128256",
    "seq_len": "4096", "gpu": "H100", "gpu_mem_gb": "80", "nodes": "2", "gpus": "16",
    "cp": "1", "gbs": "128", "zero_or_fsdp": "zero1", "precision": "bf16", "status": "ok",
}  # fmt: skip
SIZES = [(tp, pp, mbs) for tp in (1, 2, 4, 8) for pp in (1, 2) for mbs in (1, 2, 4)]


def row(tp: int, pp: int, mbs: int, **values: Any) -> Row:
    size = {"tp": tp, "pp": pp, "mbs": mbs, "dp": 16 // (tp * pp)}
    return {name: str({**JOB, **size, **values}.get(name, "")) for name in COLUMNS}


def write(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def truth(slower: float) -> list[Row]:
    """A table whose machine is the model's own, ``slower`` times; what does not fit failed."""
    rows = [row(*size) for size in SIZES]
    (task,), _ = build_tasks(rows)
    costs = task.model.prepare(task.columns).predict()
    fits = costs.memory_gib < task.model.capacity_gib
    for i, item in enumerate(rows):
        if fits[i]:
            item["step_time_s"] = repr(slower * float(costs.step_time_s[i]))
            item["mem_gb"] = repr(float(costs.allocated_gib[i]) * 2**30 / 1e9)
        else:
            item["status"] = "oom"
    assert 3 < fits.sum() < len(rows)
    return rows


def report(tmp_path: Path, rows: list[Row]) -> dict[str, Any]:
    program = find_content("analysis", "cost_model_accuracy.py")
    assert program is not None
    table, out = write(tmp_path / "table.csv", rows), tmp_path / "out.json"
    subprocess.run(
        [sys.executable, str(program), str(table), "--json", str(out)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return json.loads(out.read_text(encoding="utf-8"))


def test_a_perfect_table_scores_perfectly(tmp_path: Path) -> None:
    found = report(tmp_path, truth(1.0))
    overall = found["overall"]
    assert overall["memory_mape"] == pytest.approx(0.0, abs=1e-9)
    assert overall["oom_accuracy"] == 1.0
    assert overall["spearman"] == pytest.approx(1.0)
    assert overall["rank_of_best"] == 1.0
    assert overall["regret_top1"] == overall["regret_top5"] == 0.0
    assert overall["step_time_mape_raw"] == pytest.approx(0.0, abs=1e-9)
    assert len(found["rows"]) == len(SIZES)
    assert {"predicted_step_time_s", "predicted_memory_gib", "six_nd_step_time_s"} <= set(
        found["rows"][0]
    )


def test_three_points_teach_a_slower_machine(tmp_path: Path) -> None:
    overall = report(tmp_path, truth(1.25))["overall"]
    assert overall["step_time_mape_raw"] == pytest.approx(0.2, abs=0.01)
    assert overall["step_time_mape_after_3"] < 0.07
    assert overall["step_time_mape_after_10"] < 0.05


def test_repeats_are_the_median_and_fail_only_together() -> None:
    repeated = [row(1, 1, 1, step_time_s=t) for t in (2.0, 9.0, 3.0)]
    repeated += [row(1, 1, 1, status="fail"), row(2, 1, 1, status="fail")]
    repeated += [row(4, 1, 1, status="oom"), row(4, 1, 1, status="oom")]
    (task,), skipped = build_tasks(repeated)
    assert not skipped
    assert [(c.status, c.step_time_s, c.repeats) for c in task.configs] == [
        ("ok", 3.0, 4),
        ("fail", None, 1),
        ("oom", None, 2),
    ]


def test_tasks_are_told_apart_by_their_six_keys() -> None:
    others = [row(1, 1, 1), row(1, 1, 1, gbs="256"), row(1, 1, 1, gpus="8", nodes="1")]
    assert len(build_tasks(others)[0]) == 3


def test_what_names_nothing_known_is_skipped_with_its_reason() -> None:
    tasks, skipped = build_tasks([row(1, 1, 1, gpu="Titan-RTX", gpu_mem_gb=""), row(1, 1, 1)])
    assert len(tasks) == 1
    assert "Titan-RTX" in skipped[0]


def test_cells_become_canonical_columns() -> None:
    cells = {
        "zero_or_fsdp": "FSDP:FULL_SHARD", "recompute": "full(block,4)", "seq_parallel": "true",
        "kernel/attention": "flash_attentionv1.0.8 + RMS kernel", "precision": "MXFP8",
    }  # fmt: skip
    (task,), _ = build_tasks([row(2, 1, 1, **cells)])
    read = {name: np.asarray(values)[0] for name, values in task.columns.items()}
    assert read["zero_stage"] == 3
    assert (read["recompute_granularity"], read["recompute_num_layers"]) == ("full", 4)
    assert read["sequence_parallel"] is True
    assert read["attention_backend"] == "flash1"
    assert read["fused_normalization"] is True
    assert task.model.workload.precision == "fp8"


@pytest.mark.parametrize(
    ("source", "framework"),
    [
        ("ultrascale playbook", "nanotron"),
        ("MosaicML llm-foundry training benchmarks", "llm-foundry"),
        ("NVIDIA Megatron-Bridge performance summary", "megatron-bridge"),
        ("somebody's cluster", "generic"),
    ],
)
def test_the_source_names_the_framework(source: str, framework: str) -> None:
    assert framework_of(row(1, 1, 1, source=source)) == framework


def test_carried_tables_are_read_whole() -> None:
    folder = find_content("analysis", "data")
    assert folder is not None
    rows = read_rows(sorted(folder.glob("*.csv")))
    assert len(rows) > 2500
    assert not any("Hagemann" in item["source"] for item in rows)
    tasks, skipped = build_tasks(rows)
    assert len(tasks) > 20 * len(skipped)


def test_odd_cells_neither_stop_the_report_nor_pass_as_known() -> None:
    odd = [row(2, 1, 1, gpu="FooChip", gpu_mem_gb="48"), row(2, 1, 1, gpu="", gpu_mem_gb="")]
    odd += [row(2, 1, 1, model="b", precision="weird"), row(2, 1, 1, model="c", heads="0")]
    tasks, skipped = build_tasks(odd)
    assert len(tasks) == 3 and len(skipped) == 1
    assert "gpu" in tasks[0].assumed and "precision" in tasks[1].assumed
    unsure, known = (t.model.prepare(t.columns).predict().time_sigma[0] for t in tasks[:2])
    assert unsure > 2 * known
    assert tasks[0].model.capacity_gib == 48.0


def test_absent_columns_are_blank_and_rates_become_step_times(tmp_path: Path) -> None:
    cells = row(2, 1, 1, status="OK", step_time_s="", tokens_per_s_per_gpu="1000")
    kept = {k: v for k, v in cells.items() if k not in ("cp", "ep", "note", "source_path")}
    table = tmp_path / "short.csv"
    with table.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(kept))
        writer.writeheader()
        writer.writerow(kept)
    tasks, skipped = build_tasks(read_rows([table]))
    assert not skipped
    batch, length, gpus = (float(cells[k]) for k in ("gbs", "seq_len", "gpus"))
    assert tasks[0].configs[0].step_time_s == pytest.approx(batch * length / (1000 * gpus))
