"""The replay of measured tables: a made-up table of a made-up model, scored by hand."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = (
    "source,source_path,model,params_b,layers,hidden,heads,kv_heads,ffn,vocab,seq_len,gpu,"
    "gpu_mem_gb,nodes,gpus,tp,pp,cp,ep,vpp,dp,zero_or_fsdp,mbs,gbs,recompute,seq_parallel,"
    "kernel/attention,precision,step_time_s,tokens_per_s_per_gpu,tflops_per_gpu,mfu,mem_gb,"
    "status,note"
)
COMMON = {
    "source": "made up megatron", "model": "tiny-1B", "layers": "16", "hidden": "2048",
    "heads": "16", "kv_heads": "16", "ffn": "8192", "vocab": "32000", "seq_len": "2048",
    "gpu": "H100", "gpu_mem_gb": "80", "nodes": "1", "gpus": "8", "gbs": "64", "precision": "bf16",
    "zero_or_fsdp": "zero1", "cp": "1", "recompute": "none",
}  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER.split(","))
        writer.writeheader()
        for tp in (1, 2, 4, 8):
            for mbs in (1, 2, 4):
                time = 1.0 + 0.2 * tp + 0.1 / mbs
                row = {**COMMON, "tp": tp, "pp": 1, "dp": 8 // tp, "mbs": mbs}
                failed = tp == 1 and mbs == 4
                row |= {"status": "oom"} if failed else {"status": "ok", "step_time_s": time}
                writer.writerow(row)
        again = {**COMMON, "tp": 1, "pp": 1, "dp": 8, "mbs": 4, "status": "oom"}
        writer.writerow(again)
    return path


def run_program(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "analysis" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_program("sample_efficiency.py", *arguments, "--jobs", "1")


def test_scores_can_be_reckoned_again_from_the_rows(table: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    done = run(table, "--methods", "autotune,random,tpe", "--seeds", "2", "--json", target)
    assert done.returncode == 0, done.stderr
    result = json.loads(target.read_text())
    (task,) = result["tasks"]
    assert (task["configs"], task["ok"]) == (12, 11)
    assert set(result["overall"]) == {"autotune", "random", "tpe"}
    times = {
        (tp, mbs): 1.0 + 0.2 * tp + 0.1 / mbs
        for tp in (1, 2, 4, 8)
        for mbs in (1, 2, 4)
        if (tp, mbs) != (1, 4)
    }
    order = [(tp, mbs) for tp in (1, 2, 4, 8) for mbs in (1, 2, 4)]
    best = min(times.values())
    for row in result["rows"]:
        tried = [None if at < 0 else order[at] for at in row["order"]]
        hits = [k for k, at in enumerate(tried, 1) if at in times and times[at] <= best / 0.95]
        assert row["figures"]["trials_to_5pct"] == (hits[0] if hits else 13)
        before = tried[: int(row["figures"]["trials_to_2pct"])]
        assert row["figures"]["oom_trials"] == before.count((1, 4))
        assert row["figures"]["failed_trials"] >= row["figures"]["oom_trials"]
    ours = result["overall"]["autotune"]
    assert ours["trials_to_5pct"]["mean"] <= task["random_expected"]["5pct"]
    assert "regret_20" in ours and "fail_trials" in ours


def test_an_unknown_gpu_is_searched_with_a_prior_of_wide_bands(table: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange.csv"
    strange.write_text(table.read_text().replace("H100", "Quantum9000"))
    target = tmp_path / "out.json"
    done = run(strange, "--methods", "autotune,cost_model", "--seeds", "1", "--json", target)
    assert done.returncode == 0, done.stderr
    (task,) = json.loads(target.read_text())["tasks"]
    assert task["prior"]
    ours = task["methods"]["autotune"]["trials_to_5pct"]["mean"]
    assert ours <= task["random_expected"]["5pct"]


def test_bad_input_ends_with_2_and_says_what_is_known(table: Path) -> None:
    done = run(table, "--methods", "autotoon")
    assert done.returncode == 2
    assert "Did you mean 'autotune'" in done.stderr
    assert run(table.parent / "absent.csv").returncode == 2
    assert run(table, "--min-configs", "99").returncode == 2


def test_a_warm_start_needs_two_grids_to_compare(table: Path) -> None:
    alone = run_program("warm_start.py", table)
    assert alone.returncode == 2 and "no two grids differ in one thing" in alone.stderr
    broken = run_program("warm_start.py", table.parent / "absent.csv")
    assert broken.returncode == 2 and "Traceback" not in broken.stderr


def test_a_table_may_have_other_columns_long_rows_and_no_figures(
    table: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.csv"
    lines = list(csv.DictReader(table.open(newline="")))
    header = [name for name in HEADER.split(",") if name not in ("note", "precision")] + ["mine"]
    with odd.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for line in lines:
            writer.writerow([line.get(name, "x") for name in header] + ["one", "more"])
        for time in ("nan", "", "soon"):
            given = {**COMMON, "tp": "8", "pp": "1", "mbs": "16", "status": "OK"}
            writer.writerow([(given | {"step_time_s": time}).get(name, "") for name in header])
    target = tmp_path / "out.json"
    done = run(odd, "--methods", "autotune,paddle", "--json", target)
    assert done.returncode == 0, done.stderr
    (task,) = json.loads(target.read_text())["tasks"]
    assert (task["configs"], task["ok"]) == (12, 11)
