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
    profiler = Path(__file__).parents[2] / "runners" / "step_profiler.py"
    assert 'f"trace.rank{' in profiler.read_text()


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


NSYS = """#!/bin/sh
# What `nsys profile OPTION... --output FILE PROGRAM...` leaves: a report of what it ran.
while [ "$1" != --output ]; do options="$options $1"; shift; done
report=$2; shift 2
case $report in *%q{NODE_RANK}) report=${report%\\%*}$NODE_RANK; esac
mkdir -p $(dirname $report)
echo "$options | $*" > $report.nsys-rep
exec "$@"
"""
OWN = """
name: own
framework: command
command: [sh, "{trial_dir}/run.sh", "{width}", --with, "{profiler}"]
files:
  run.sh: |
    for step in 1 2 3 4; do echo "tokens/s: $1000"; done
    test "$2 $3" != "--with torch" || echo {} > $AUTOTUNE_TRIAL_DIR/trace.json
options: {per: node}
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters: {width: {values: [1, 2]}}
baseline: {width: 1}
trial: {min_steps: 3, time_limit_s: 60}
budget: {trials: 1, finalists: 0}
"""


def test_nsys_stands_in_front_of_a_program_of_the_users_own(cli: Cli) -> None:
    cli.write("own.yaml", OWN)
    cli("run", "--space", "own.yaml", "--study", "s")
    asked = ("profile", "s", "--trial", "0")
    assert "'nsys' is not on PATH" in cli(*asked, "--with", "nsys", expect=2).stderr
    (cli.folder / "bin").mkdir()
    nsys = cli.write("bin/nsys", NSYS)
    nsys.chmod(0o755)
    cli.env["PATH"] = f"{nsys.parent}:{cli.env['PATH']}"
    report = Path(cli(*asked, "--with", "nsys", "--nsys-option=--delay=60").stdout.strip())
    assert report.name == "nsys_node0.nsys-rep"
    options, program = report.read_text().split(" | ")
    assert "--delay=60" in options and "--capture-range" not in options
    assert program.strip().endswith("run.sh 1 --with nsys")
    assert "is for --with nsys" in cli(*asked, "--nsys-option=--delay=60", expect=2).stderr
    assert Path(cli(*asked).stdout.strip()).name == "trace.json"


def test_an_unknown_study_is_said(cli: Cli) -> None:
    assert "nknown study" in cli("profile", "absent", "--with", "torch", expect=2).stderr
