"""`run --from STUDY`: what one study taught about a cluster, kept in the next one's record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.controller.conftest import Cli

SIMULATED = ["run", "--space", "llama8b_tp_pp", "--simulate", "--set", "budget.finalists=0"]
SIMULATED += ["--simulation-seed", "2"]  # a machine whose steps the model expects 22% wrong


def settings(cli: Cli, name: str) -> dict[str, object]:
    path = Path(cli.env["AUTOTUNE_HOME"]) / "studies" / name / "study.json"
    found: dict[str, object] = json.loads(path.read_text())["options"]
    return found


def baseline_error(cli: Cli, name: str) -> float:
    """How far the baseline's step time was from what was expected of it, relatively."""
    trial = cli("explain", f"{name}:0").stdout
    said = next(line for line in trial.splitlines() if line.startswith("The step took"))
    return abs(float(said.split()[3].rstrip("%")))


@pytest.fixture
def earlier(cli: Cli) -> Cli:
    cli(*SIMULATED, "--study", "one", "--trials", "5")
    return cli


def test_a_study_of_more_nodes_expects_what_the_smaller_one_taught(earlier: Cli) -> None:
    more = [*SIMULATED, "--set", "cluster.nodes=2", "--trials", "1"]
    earlier(*more, "--study", "cold")
    said = earlier(*more, "--study", "warm", "--from", "one").stderr
    assert "5 trials of study one" in said
    assert baseline_error(earlier, "warm") < baseline_error(earlier, "cold")
    kept = settings(earlier, "warm")["warm_start"]
    assert isinstance(kept, dict) and kept["study"] == "one" and "moved by" in kept["origin"]
    assert settings(earlier, "cold")["warm_start"] is None


def test_a_resumed_study_keeps_what_it_started_from(earlier: Cli) -> None:
    run = [*SIMULATED, "--set", "cluster.nodes=2", "--from", "one"]
    earlier(*run, "--study", "whole", "--trials", "3")
    earlier(*run, "--study", "halves", "--trials", "2")
    kept = settings(earlier, "halves")
    (Path(earlier.env["AUTOTUNE_HOME"]) / "studies" / "one" / "space.yaml").unlink()
    earlier("resume", "halves", "--trials", "3")
    assert settings(earlier, "halves") == kept
    whole, halves = (earlier.json("status", name)["trials"] for name in ("whole", "halves"))
    assert [t["params"] for t in whole] == [t["params"] for t in halves]


def test_what_cannot_be_started_from_is_refused_and_nothing_is_created(cli: Cli) -> None:
    plain = ["run", "--space", "job.yaml", "--trials", "1", "--set", "budget.finalists=0"]
    cli(*plain, "--study", "plain", "--sampler", "grid")
    said = cli(*SIMULATED, "--study", "new", "--from", "nowhere", expect=2).stderr
    assert "nowhere" in said and "plain" in said
    said = cli(*SIMULATED, "--study", "new", "--from", "plain", expect=2).stderr
    assert "no cost model for study 'plain'" in said
    said = cli(*plain, "--study", "new", "--from", "plain", expect=2).stderr
    assert "no cost model for job" in said
    assert [study["name"] for study in cli.json("status")] == ["plain"]
