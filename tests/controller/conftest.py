"""Studies over small real programs: a space file, a trainer beside it, a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import forked

TRAINER = """
import argparse, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int)
parser.add_argument("--mode", default="ok")
a = parser.parse_args()
if a.mode == "trap_exit":
    for _ in range(6):
        print("tokens/s: 99999999", flush=True)
    sys.exit(1)
if a.mode == "trap_oom":
    print("tokens/s: 99999999", flush=True)
    print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", flush=True)
    sys.exit(0)
if a.mode == "trap_silent":
    sys.exit(0)
for _ in range(6):
    time.sleep(0.01)
    print(f"tokens/s: {1000 * a.batch}", flush=True)
"""

SPACE = """
name: job
framework: command
command: ["python3", "train.py", "--batch", "{batch}", "--mode", "{mode}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters:
  batch: {values: [1, 2, 4]}
  mode: {values: [ok, trap_exit, trap_oom, trap_silent]}
baseline: {batch: 1, mode: ok}
trial: {min_steps: 3, time_limit_s: 60}
budget: {trials: 20, finalists: 2}
"""


class Cli:
    """The command line as a user runs it, in a folder with a space and a trainer."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "AUTOTUNE_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "200"}

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "autotune", *words]

    def __call__(self, *words: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = forked.autotune(words, self.folder, self.env)
        if expect is not None:
            assert done.returncode == expect, (
                f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *words: str, expect: int | None = 0) -> Any:
        return json.loads(self(*words, "--json", expect=expect).stdout)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    folder = tmp_path / "job"
    folder.mkdir()
    made = Cli(folder, tmp_path / "home")
    made.write("train.py", TRAINER)
    made.write("job.yaml", SPACE)
    return made


@pytest.fixture
def started(cli: Cli) -> Callable[..., subprocess.Popen[str]]:
    """Starts a command in the background, for signals."""

    def start(*words: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            cli.argv(*words),
            cwd=cli.folder,
            env={**cli.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
