"""What a running study shows: a screen of 80 columns in a terminal, plain lines when piped."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

from autotune.cli.live import running_line
from autotune.controller import Progress
from tests.controller.conftest import Cli, cli

__all__ = ["cli"]

RUN = ("run", "--space", "job.yaml", "--study", "s", "--sampler", "grid", "--trials", "3")
SLOW = """
import sys, time
for _ in range(12):
    time.sleep(0.2)
    print("tokens/s: 1000", flush=True)
"""
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def _in_a_terminal(cli: Cli, *words: str, **env: str) -> bytes:
    """What a command writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in cli.env.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        cli.argv(*words), cwd=cli.folder, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**kept, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **env},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # Linux says so when the other side closes
        pass
    finally:
        os.close(ours)
    assert process.wait(timeout=120) == 0, said
    return said


def test_a_terminal_shows_running_trials_and_the_standing(cli: Cli) -> None:
    cli.write("train.py", SLOW)
    said = _in_a_terminal(cli, *RUN)
    plain = ESCAPE.sub(b"", said).decode()
    assert re.search(r"trial \d+: measuring step \d+", plain)
    assert "GPU-hours" in plain and "the baseline" in plain and "trials ━" in plain
    lines = re.split(r"[\r\n]+", plain)
    assert max(len(line) for line in lines if not line.startswith("Files: ")) <= 80
    assert b"\x1b[1" in said, "bold where colours are welcome"


def test_no_color_is_honoured(cli: Cli) -> None:
    said = _in_a_terminal(cli, *RUN, NO_COLOR="1")
    assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", said)


def test_piped_it_is_one_line_a_trial(cli: Cli) -> None:
    lines = cli(*RUN).stderr.splitlines()
    assert sum(line.startswith("trial ") for line in lines) >= 3
    assert "\x1b" not in "".join(lines)


def test_watching_ends_with_the_study_and_changes_nothing(cli: Cli) -> None:
    cli(*RUN)
    database = Path(cli.env["AUTOTUNE_HOME"]) / "studies" / "s" / "study.db"
    before = database.read_bytes()
    said = cli("status", "s", "--watch").stdout
    assert "winner: trial" in said and "\x1b" not in said
    assert database.read_bytes() == before


def test_time_left_is_by_the_pace_and_never_beyond_the_limit() -> None:
    running = Progress(3, "measuring", 10, 40, 2.0, 20.0, 600.0)
    assert running_line(running).endswith("2 s/step, 20 s so far, at most 1 min 00 s left")
    assert "at most 5.0 s left" in running_line(Progress(3, "measuring", 1, 40, 2.0, 20.0, 25.0))
    assert "limit in 10 min" in running_line(Progress(3, "starting", time_limit_s=600.0))
