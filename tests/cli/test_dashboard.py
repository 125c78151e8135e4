"""The real optuna-dashboard over a real study: what its HTTP API hands to a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any
from urllib.request import urlopen

import pytest

from tests.controller.conftest import Cli, cli, started

__all__ = ["cli", "started"]

RUN = ("run", "--space", "job.yaml", "--study", "s", "--sampler", "grid", "--trials", "5")


@pytest.fixture
def url(cli: Cli, started: Callable[..., Popen[str]]) -> Any:
    """The address of a dashboard over a study with good and bad trials."""
    cli(*RUN)
    server = started("dashboard", "s", "--port", "0")
    assert server.stdout is not None
    yield server.stdout.readline().strip()
    server.terminate()
    server.communicate(timeout=20)


def _get(url: str) -> bytes:
    with urlopen(url, timeout=30) as answer:
        data: bytes = answer.read()
    return data


def test_the_study_opens_with_trials_notes_and_artifacts(url: str, cli: Cli) -> None:
    root, _, number = url.rpartition("/dashboard/studies/")
    assert b"<html" in _get(url).lower()
    told = cli.json("status", "s")["trials"]
    detail = json.loads(_get(f"{root}/api/studies/{number}?after=0"))
    assert len(detail["trials"]) == len(told)
    assert "Winner" in detail["note"]["body"]
    plots = {
        item["id"]: json.loads(item["graph_object"]) for item in detail["plotly_graph_objects"]
    }
    assert {"autotune-best_so_far", "autotune-failures"} <= set(plots)
    assert all(plot["layout"]["title"]["text"].count("?<br>") == 1 for plot in plots.values())
    for trial, ours in zip(detail["trials"], told, strict=True):
        shown = {item["name"]: item["param_external_value"] for item in trial["params"]}
        assert shown == {name: str(value) for name, value in ours["params"].items()}
        told_result = next(a for a in trial["user_attrs"] if a["key"] == "result")
        assert f"{ours['outcome']}" in told_result["value"]
        assert ours["outcome"] in trial["note"]["body"]
        violated = ours["outcome"] == "oom_gpu"
        assert (trial["constraints"][:1] == [1.0]) == violated
        assert ("Violated constraint: memory" in trial["note"]["body"]) == violated
        kept = {item["filename"]: item["artifact_id"] for item in trial["artifacts"]}
        assert sorted(kept) == ["log.txt", "trial.md"] or ours["outcome"] == "incomplete"
        base = f"{root}/artifacts/{number}/{trial['trial_id']}"
        document = _get(f"{base}/{kept['trial.md']}").decode()
        assert "train.py" in document and str(ours["params"]["mode"]) in document
        if ours["outcome"] == "ok":
            assert b"tokens/s:" in _get(f"{base}/{kept['log.txt']}")


def test_artifacts_are_private(cli: Cli) -> None:
    cli(*RUN)
    folder = Path(cli.env["AUTOTUNE_HOME"]) / "studies" / "s" / "artifacts"
    files = list(folder.iterdir())
    assert files and folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_person_keeps_their_own_note(cli: Cli) -> None:
    from autotune.study.dashboard import write_note
    from autotune.study.paths import StudyPaths
    from autotune.study.record import Study

    cli(*RUN)
    study = Study.open(StudyPaths(Path(cli.env["AUTOTUNE_HOME"]) / "studies" / "s"))
    assert write_note(study, 0, "first")
    assert not write_note(study, 0, "first")
    assert write_note(study, 0, "second")
    key = f"dashboard:{study.trial_id(0)}:note_str:0"
    study.storage.set_study_system_attr(study.study_id, key, "mine")
    assert not write_note(study, 0, "third")
    assert study.storage.get_study_system_attrs(study.study_id)[key] == "mine"
    study.close()


def test_a_browser_shows_the_study(url: str, tmp_path: Path) -> None:
    page = _dom(f"{url}/trials", tmp_path)
    assert "Trial 0" in page and "batch" in page and "trial.md" in page
    assert "Chosen because" in page


def test_a_browser_draws_our_plots(url: str, tmp_path: Path) -> None:
    assert "How fast did the search find it?" in _dom(url, tmp_path)


def _dom(url: str, tmp_path: Path) -> str:
    browser = shutil.which("chromium")
    if browser is None:
        assert not os.environ.get("AUTOTUNE_REQUIRE_ALL"), "chromium is not installed"
        pytest.skip("chromium is not installed")
    return subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=15000", "--dump-dom", url],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
