"""F05: killed during an export or report, a file is the old one or the new one, never half."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.controller.conftest import Cli
from tests.faults.conftest import check_invariants

KILLED = """
import os, pathlib, signal, sys
at, done = int(sys.argv.pop(1)), 0
def killed(self, target):
    global done
    done += 1
    if done == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
replace, pathlib.Path.replace = pathlib.Path.replace, killed
from autotune.cli import main
main()
"""
"""The command line, killed when it has written its n-th file and is about to put it in place."""


def killed_at(cli: Cli, count: int, *words: str) -> bool:
    """Whether the command got as far as its n-th file, and was killed there."""
    argv = [sys.executable, "-c", KILLED, str(count), *words]
    done = subprocess.run(argv, cwd=cli.folder, env=cli.env, capture_output=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == -signal.SIGKILL


def contents(folder: Path) -> dict[str, str]:
    """What a reader finds there: an unfinished file has a hidden name."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.name[0] != "."}


def test_f05_killed_during_export(slow: Cli) -> None:
    slow("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random", "--trials", "2")
    out = slow.folder / "out"
    export = ("export", "s", "-o", "out", "--trial")
    slow(*export, "0")
    old = contents(out)
    seen = []
    for count in (1, len(old)):
        assert killed_at(slow, count, *export, "1")
        seen.append(contents(out))
    assert not killed_at(slow, len(old) + 1, *export, "1"), "every file is put in place whole"
    new = contents(out)
    assert old.keys() == new.keys() and old != new
    assert seen[0] == old
    for name in old:
        assert seen[1][name] in (old[name], new[name]), name
    check_invariants(slow, "s")


def test_f05_killed_during_report(slow: Cli) -> None:
    slow("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random", "--trials", "2")
    (slow.folder / "out").mkdir()
    slow("report", "s", "-o", "out/report.html")
    old = contents(slow.folder / "out")
    assert killed_at(slow, 1, "report", "s", "-o", "out/report.html")
    assert contents(slow.folder / "out") == old
    check_invariants(slow, "s")
