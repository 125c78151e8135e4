"""F33, the supervisor's half: the kernel's memory killer is told from any other SIGKILL."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotune.trial import GangStatus
from tests.launchers.gangs import actor_job, need, opened, wait_until

VERSION1 = Path("/sys/fs/cgroup/memory")
VERSION2 = Path("/sys/fs/cgroup")
MEMORY_BYTES = 120 * 1024 * 1024


SUBMIT = """
import json, os, sys
from pathlib import Path
from autotune.launchers import get_launcher
from autotune.trial import Job
group, trial_dir, *argv = sys.argv[1:]
(Path(group) / "cgroup.procs").write_text(str(os.getpid()))
handle = get_launcher("local").submit(Job(tuple(argv), time_limit_s=60.0), Path(trial_dir), "f33")
print(json.dumps(handle))
"""


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A cgroup of 120 MiB."""
    version1 = (VERSION1 / "memory.limit_in_bytes").exists()
    group = (VERSION1 if version1 else VERSION2) / f"autotune-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        limit = "memory.limit_in_bytes" if version1 else "memory.max"
        (group / limit).write_text(str(MEMORY_BYTES))
        if not version1:
            (group / "memory.swap.max").write_text("0")
    except OSError as error:
        need(f"no writable memory cgroup here: {error}")
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def run_within(group: Path, folder: Path, *words: str) -> GangStatus:
    """A gang submitted by a controller that lives in the cgroup; how it ended."""
    argv = [sys.executable, "-c", SUBMIT, str(group), str(folder / "trial")]
    done = subprocess.run(
        [*argv, *actor_job(*words).argv], check=True, capture_output=True, text=True
    )
    with opened("local", folder) as gangs:
        gangs.started.append(json.loads(done.stdout))
        return gangs.finish(gangs.started[0])


def test_f33_a_rank_killed_for_host_memory(small_cgroup: Path, tmp_path: Path) -> None:
    status = run_within(small_cgroup, tmp_path, "eat=2000")
    assert status.oom_kill
    assert status.exits[0].signal == signal.SIGKILL


def test_f33_a_rank_killed_by_somebody_else(small_cgroup: Path, tmp_path: Path) -> None:
    status = run_within(small_cgroup, tmp_path, f"kill={int(signal.SIGKILL)}")
    assert status.exits[0].signal == signal.SIGKILL
    assert not status.oom_kill
