"""Every command block of README and docs is run; what needs more than this machine is parsed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from autotune.cli import _register_all, app

from .blocks import NEEDS, PAGES, ROOT, Block, autotune_calls, blocks_of

TRAINER = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int)
parser.add_argument("--compile")
a = parser.parse_args()
for _ in range(5):
    print(f"tokens/s: {1000 * a.batch * (1.5 if a.compile == 'true' else 1)}", flush=True)
"""
SERVES = "autotune dashboard"
ALL = [block for path in PAGES for block in blocks_of(path)]
MOST_NOT_RUN = 17


def test_there_are_blocks_and_few_are_not_run() -> None:
    unknown = {block.name: block.needs for block in ALL if block.needs not in {None, *NEEDS}}
    assert not unknown, f"`<!-- needs: ... -->` takes one of {sorted(NEEDS)}"
    not_run = [block.name for block in ALL if block.needs is not None]
    assert len(ALL) > 25 and len(not_run) <= MOST_NOT_RUN, not_run


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_command_hides_in_another_kind_of_block(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    hidden = re.findall(r"^    (?:autotune|scripts/|pip|python|mpirun|srun|sbatch) .*", text, re.M)
    assert not hidden, "put commands between ```bash and ```"


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.name)
def test_every_autotune_command_is_one(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and options exist and their values have the right type, run or not."""
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    _register_all()
    group = typer.main.get_command(app)
    for command in block.commands:
        for words in autotune_calls(command):
            try:
                _parse(group, "autotune", list(words))
            except SystemExit as ended:  # --version and its like answer while parsing
                assert not ended.code


def _parse(command: Any, name: str, words: list[str]) -> None:
    """As click parses them, without calling anything; UsageError for what it does not know."""
    context = command.make_context(name, words)
    if hasattr(command, "resolve_command") and context._protected_args:
        rest = [*context._protected_args, *context.args]
        found, child, left = command.resolve_command(context, rest)
        _parse(child, found, left)


@pytest.fixture
def home(tmp_path: Path) -> Mapping[str, str]:
    """A folder with README's my_job.yaml and its trainer, and this environment's commands."""
    yaml = re.search(r"```yaml\n# my_job.yaml\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    assert yaml is not None
    for name in ("my_job.yaml", "my.yaml"):
        (tmp_path / name).write_text(yaml.group(1))
    (tmp_path / "train.py").write_text(TRAINER)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "AUTOTUNE_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}


def _pages_to_run() -> list[Path]:
    return [path for path in PAGES if any(block.needs is None for block in blocks_of(path))]


@pytest.mark.parametrize("path", _pages_to_run(), ids=lambda path: path.name)
def test_blocks_run_as_they_stand(path: Path, home: Mapping[str, str], tmp_path: Path) -> None:
    """In order, in one folder, as a reader would."""
    text = path.read_text()
    if "my_job-1" in text and "--space my_job.yaml" not in text:
        _run("autotune run --space my_job.yaml", home, tmp_path, "what the page looks at")
    for block in blocks_of(path):
        if block.needs is None:
            for command in block.commands:
                _run(command, home, tmp_path, block.name)


def _run(command: str, env: Mapping[str, str], folder: Path, where: str) -> None:
    if command.startswith(SERVES):
        _serve(command, env, folder)
        return
    if command.startswith("scripts/"):
        folder = ROOT
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder, env=env, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{where}: {command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def _serve(command: str, env: Mapping[str, str], folder: Path) -> None:
    """A server says where it listens, and serves until it is ended."""
    server = subprocess.Popen(
        ["bash", "-c", f"exec {command.partition('#')[0]} --port 0"],
        cwd=folder, env=env, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    assert server.stdout.readline().startswith("http://127.0.0.1:")
    assert server.poll() is None
    server.terminate()
    server.wait(timeout=60)
