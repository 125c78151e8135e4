"""`autotune plan` predicts without running anything; `autotune compare` judges two sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controller.conftest import Cli, cli

__all__ = ["cli"]


def test_a_plan_by_parts(cli: Cli) -> None:
    found = cli.json("plan", "--space", "llama70b_tp_pp", "--top", "5")
    rows = found["rows"]
    assert len(rows) >= 5 and found["likely_to_fit"] <= found["legal"] <= found["raw_points"]
    for row in rows:
        assert sum(row["step_time_by_part_s"].values()) == pytest.approx(
            row["step_time_s"], rel=0.01
        )
        assert sum(row["memory_by_part_gib"].values()) == pytest.approx(row["memory_gib"], rel=0.01)
    times = [row["step_time_s"] for row in rows if row["fits"] and not row["baseline"]]
    assert times == sorted(times)
    page = Path(cli("plan", "--space", "llama70b_tp_pp", "--html", "p.html").stdout.strip())
    assert "PREDICTED" in (cli.folder / page).read_text()
    assert not Path(cli.env["AUTOTUNE_HOME"]).exists(), "a plan leaves nothing behind"


def test_a_plan_needs_a_model(cli: Cli) -> None:
    assert "seq_length" in cli("plan", "--space", "job.yaml", expect=2).stderr


def test_two_sides(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "grid")
    found = cli.json("compare", "s:0", "s")
    assert found["gain"]["value"] == pytest.approx(4.0) and found["separated"]
    assert found["changes"] == {"batch": [1, 4]}
    assert "A tie" in cli("compare", "s", "s").stdout
    failed = next(t for t in cli.json("status", "s")["trials"] if t["outcome"] != "ok")
    assert "no figure" in cli("compare", "s", f"s:{failed['number']}", expect=2).stderr
    cli("compare", "s", "nosuch", expect=2)
