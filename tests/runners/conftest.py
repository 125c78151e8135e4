"""Starts a rendered job's ranks as the launchers do, and hands back what rank 0 printed."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from autotune.trial import Job

LIMIT_S = 240


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(job: Job, folder: Path) -> str:
    for name, text in job.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ranks = job.world_size if job.per == "rank" else 1
    shared = {
        **os.environ,
        **job.env,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
    }
    logs = [folder / f"rank{rank}.log" for rank in range(ranks)]
    gang = []
    for rank, log in enumerate(logs):
        env = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        with log.open("w") as output:
            gang.append(
                subprocess.Popen(
                    job.argv, env=env, cwd=folder, stdout=output, stderr=subprocess.STDOUT
                )
            )
    try:
        codes = [process.wait(timeout=LIMIT_S) for process in gang]
    finally:
        for process in gang:
            process.kill()
    texts = [log.read_text(errors="replace") for log in logs]
    assert codes == [0] * ranks, f"exit codes {codes}:\n" + "\n".join(t[-3000:] for t in texts)
    return texts[0]


@pytest.fixture
def run_job() -> Callable[[Job, Path], str]:
    """``run_job(job, folder)``: runs all ranks to their end, asserts exit 0, gives rank 0's log."""
    return _start
