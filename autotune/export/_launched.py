"""A job's program under the launcher of a library, where the job is a gang of ranks."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.errors import BadInput
from autotune.export import Winner, _shell


def program(winner: Winner, name: str) -> list[str]:
    """The program and its arguments without the interpreter; BadInput for another kind of job."""
    python, *rest = winner.job.argv
    if winner.job.per != "rank" or "python" not in python.rsplit("/", 1)[-1]:
        raise BadInput(
            f"--format {name} starts a Python program once per GPU; this winner is started once "
            f"per {winner.job.per}. --format bash exports any winner"
        )
    return rest


def launched(winner: Winner, start: Sequence[str], rest: Sequence[str]) -> str:
    """run.sh: environment, then ``start`` (lines of shell as they are) and the program."""
    words = _shell.command(rest, winner.folder)
    lines = [*_shell.header(winner.job, winner.folder), *start[:-1]]
    return _shell.script([*lines, f'exec {start[-1]} {words} "$@"'])
