"""`autotune.load_study`: the example of docs/reports.md, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import autotune
from autotune.errors import BadInput
from tests.controller.conftest import Cli, cli

__all__ = ["cli"]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reports.md"


def test_the_documented_example_runs(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    cli("run", "--space", "job.yaml", "--study", "my_job-1", "--sampler", "grid")
    monkeypatch.setenv("AUTOTUNE_HOME", cli.env["AUTOTUNE_HOME"])
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    exec(compile(blocks[0], str(DOCS), "exec"), names)
    study = autotune.load_study("my_job-1")
    assert study.winner is not None and study.winner.values["batch"] == 4
    frame = study.frame()
    assert len(frame) == len(study.records)
    assert frame.loc[frame.outcome == "ok", "objective"].max() == pytest.approx(4000)
    with pytest.raises(BadInput, match="best_so_far"):
        study.plot("nosuch")
