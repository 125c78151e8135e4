"""Runs one program on every node outside of any study: for checks and measurements.

The same launchers, supervisors and logs as a trial's, in a temporary folder that is removed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune.errors import BadInput, InfrastructureError
from autotune.launchers import Launcher, end_gang
from autotune.logs.tail import TrialLogs
from autotune.study.intents import new_token
from autotune.trial import Job


@dataclass(frozen=True)
class Printed:
    """What one process of the program printed, and the code it ended with (None: a signal)."""

    rank: int
    text: str
    code: int | None


def run_once(launcher: Launcher, argv: Sequence[str], nodes: int, limit_s: float) -> list[Printed]:
    """Start ``argv`` once on each node and wait for it.

    BadInput when it cannot be started; InfrastructureError when a node vanished or it did not
    end within ``limit_s`` seconds.
    """
    job = Job(
        argv=tuple(argv), per="node" if nodes > 1 else "job", nodes=nodes, time_limit_s=limit_s
    )
    with tempfile.TemporaryDirectory(prefix="autotune-") as folder:
        trial_dir = Path(folder)
        handle = launcher.submit(job, trial_dir, new_token())
        try:
            while (status := launcher.poll(handle)).state not in ("exited", "lost"):
                time.sleep(0.05)
        finally:
            end_gang(launcher, handle, 2.0)
        lines: dict[int, list[str]] = {}
        for rank, _arrival_s, text in TrialLogs(trial_dir).drain():
            lines.setdefault(rank, []).append(text.decode("utf-8", "replace"))
    if status.state == "lost" or status.deadline_hit:
        why = status.detail or f"did not end within {limit_s:.0f} s"
        raise InfrastructureError(f"{Path(argv[-1]).name}: {why}")
    codes = {rank_exit.rank: rank_exit.code for rank_exit in status.exits}
    if not lines:
        raise BadInput(f"{argv[0]} printed nothing (exit {codes.get(0)})")
    return [Printed(rank, "\n".join(text), codes.get(rank)) for rank, text in sorted(lines.items())]
