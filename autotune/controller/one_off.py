"""Runs one job outside of any study: checks, measurements, profiles.

The same launchers, supervisors and logs as a trial's.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune.errors import BadInput, InfrastructureError
from autotune.launchers import Launcher, end_gang
from autotune.logs.tail import TrialLogs
from autotune.study.intents import new_token
from autotune.trial import GangStatus, Job, StartPer


@dataclass(frozen=True)
class Printed:
    """What one process of the program printed, and the code it ended with (None: a signal)."""

    rank: int
    text: str
    code: int | None


def run_job(
    launcher: Launcher, job: Job, folder: Path, meanwhile: Callable[[], None] = lambda: None
) -> GangStatus:
    """Start a job in its folder and wait for its end; nothing of it is left afterwards.

    ``meanwhile`` is called while it runs, and may raise to end it. BadInput when it cannot be
    started, InfrastructureError when it waits for what can never come.
    """
    handle = launcher.submit(job, folder, new_token())
    try:
        while (status := launcher.poll(handle)).state not in ("exited", "lost"):
            if status.hopeless:
                raise InfrastructureError(status.detail)
            meanwhile()
            time.sleep(0.05)
    finally:
        end_gang(launcher, handle, 2.0)
    return status


def run_once(launcher: Launcher, argv: Sequence[str], nodes: int, limit_s: float) -> list[Printed]:
    """Start ``argv`` once on each node, in a temporary folder, and wait for it.

    BadInput when it cannot be started or says nothing; InfrastructureError when a node vanished
    or it did not end within ``limit_s`` seconds.
    """
    per: StartPer = "node" if nodes > 1 else "job"
    job = Job(argv=tuple(argv), per=per, nodes=nodes, time_limit_s=limit_s)
    with tempfile.TemporaryDirectory(prefix="autotune-") as folder:
        status = run_job(launcher, job, Path(folder))
        lines: dict[int, list[str]] = {}
        for rank, _arrival_s, text in TrialLogs(Path(folder)).drain():
            lines.setdefault(rank, []).append(text.decode("utf-8", "replace"))
    if status.state == "lost" or status.deadline_hit:
        why = status.detail or f"did not end within {limit_s:.0f} s"
        raise InfrastructureError(f"{Path(argv[-1]).name}: {why}")
    codes = {rank_exit.rank: rank_exit.code for rank_exit in status.exits}
    if not lines:
        raise BadInput(f"{argv[0]} printed nothing (exit {codes.get(0)})")
    return [Printed(rank, "\n".join(text), codes.get(rank)) for rank, text in sorted(lines.items())]
