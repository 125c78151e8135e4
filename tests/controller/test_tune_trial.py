"""One trial of a space under Ray Tune: the page docs/ray-tune.md, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.controller import prepare
from autotune.controller.tune_trial import OneTrial
from autotune.errors import BadInput
from tests.controller.conftest import Cli
from tests.engines import ray as engine
from tests.launchers.gangs import need

PAGE = Path(__file__).parents[2] / "docs" / "ray-tune.md"


def block(language: str, number: int = 0) -> str:
    """A code block of the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[number]


@pytest.fixture
def page(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's space and trainer in a folder that is the working directory."""
    cli.write("job.yaml", block("yaml"))
    cli.write("train.py", block("python", 0))
    monkeypatch.chdir(cli.folder)
    return cli.folder


def test_steps_are_told_one_by_one_and_then_the_verdict(page: Path) -> None:
    one = OneTrial(prepare("job.yaml"), {"batch": 2}, page / "gang")
    told = []
    while not told or not told[-1]["done"]:
        told.append(one.next_report())
    one.end()
    assert [entry["step"] for entry in told[:-1]] == list(range(1, 21))
    assert told[-1]["outcome"] == "ok" and told[-1]["tokens_per_s"] == pytest.approx(2000, rel=0.5)


def test_running_out_of_memory_is_told(page: Path) -> None:
    one = OneTrial(prepare("job.yaml"), {"batch": 16}, page / "gang")
    told = one.next_report()
    one.end()
    assert told["done"] and told["oom"] and told["outcome"] == "oom_gpu"


def test_a_config_outside_the_space_is_refused(page: Path) -> None:
    with pytest.raises(BadInput, match="not among the legal configs of job"):
        OneTrial(prepare("job.yaml"), {"batch": 3}, page / "gang")


@pytest.mark.slow
def test_the_page_runs_under_tune_with_a_scheduler(page: Path, cli: Cli) -> None:
    if engine.missing():
        need(str(engine.missing()))
    (page / "search.py").write_text(block("python", 1))
    done = subprocess.run(
        [sys.executable, "search.py"],
        cwd=page,
        env={
            **cli.env,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": engine.TOKEN,
            "RAY_ADDRESS": "local",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "best: {'batch': 8}" in done.stdout, done.stdout
    assert "trials: 5, out of memory: 1, errors: 0" in done.stdout
