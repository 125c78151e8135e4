"""`autotune profile` names the files that a profiled run left."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta

from autotune.cli.commands.profile import _is_profile
from tests.controller.conftest import Cli, cli

__all__ = ["cli"]


@pytest.mark.parametrize(
    "name", ["trace.rank0.json", "trace.5.json", "h.pt.trace.json", "a.nsys-rep"]
)
def test_a_trace_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    assert _is_profile(path) and not _is_profile(tmp_path / "config.json")


def test_the_traces_of_the_runners_here_are_named_so() -> None:
    runners = Path(__file__).parents[2] / "runners"
    for program in ("sft_data/profiling.py", "torch_trainer/loop.py"):
        assert 'f"trace.{' in (text := (runners / program).read_text()) or 'f"trace.rank{' in text


TRAINER = """
import json, pathlib, sys
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
for step in range(4):
    print("tokens/s: 1000", flush=True)
if flags.get("--profiler") == "torch" and flags["--width"] == "1":
    folder = pathlib.Path(flags["--profile-dir"])
    folder.mkdir()
    (folder / "trace.rank0.json").write_text("{}")
"""
NUMBER = {"type": "int", "default": 1}
FLAGS = dict.fromkeys(("width", "steps", "seed"), NUMBER) | {
    name: {"type": "str", "default": ""} for name in ("profiler", "profile_dir")
}
SPACE = """
name: mine
framework: torch
runner: mine
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters: {width: {values: [1, 2]}}
baseline: {width: 1}
trial: {min_steps: 3, time_limit_s: 60}
budget: {trials: 2, finalists: 0}
"""


def test_a_trace_is_told_and_an_artifact_of_the_study_and_its_lack_is_an_error(cli: Cli) -> None:
    (cli.folder / "runners" / "mine").mkdir(parents=True)
    cli.write("runners/mine/train.py", TRAINER)
    cli.write("runners/mine/flags.json", json.dumps({"flags": FLAGS}))
    cli.write("mine.yaml", SPACE)
    cli("run", "--space", "mine.yaml", "--study", "s")
    trace = Path(cli("profile", "s", "--trial", "0").stdout.strip())
    assert trace.name == "trace.rank0.json"
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{trace.parents[3]}/study.db")
    (artifact,) = get_all_artifact_meta(study)
    assert artifact.filename == "trial 0 trace.rank0.json"
    assert (trace.parents[3] / "artifacts" / artifact.artifact_id).read_text() == "{}"
    assert "left no trace" in cli("profile", "s", "--trial", "1", expect=2).stderr


def test_an_unknown_study_is_said(cli: Cli) -> None:
    assert "nknown study" in cli("profile", "absent", "--with", "torch", expect=2).stderr
