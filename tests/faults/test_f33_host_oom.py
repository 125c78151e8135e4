"""F33, the supervisor's half: the kernel's memory killer is told from any other SIGKILL."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotune.launchers import host
from tests.launchers.gangs import actor_job, need, opened

VERSION1 = Path("/sys/fs/cgroup/memory")
VERSION2 = Path("/sys/fs/cgroup")
MEMORY_BYTES = 120 * 1024 * 1024


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A cgroup of 120 MiB; this process is in it while the test runs."""
    version1 = (VERSION1 / "memory.limit_in_bytes").exists()
    root = VERSION1 if version1 else VERSION2
    home = next(
        (
            line.split(":", 2)[2]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if ("memory" in line.split(":")[1].split(",")) == version1
        ),
        "/",
    )
    group = root / f"autotune-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        limit = "memory.limit_in_bytes" if version1 else "memory.max"
        (group / limit).write_text(str(MEMORY_BYTES))
        if not version1:
            (group / "memory.swap.max").write_text("0")
        before = root / home.lstrip("/")
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        need(f"no writable memory cgroup here: {error}")
    yield group
    (before / "cgroup.procs").write_text(str(os.getpid()))
    group.rmdir()


def test_f33_a_rank_killed_for_host_memory(small_cgroup: Path, tmp_path: Path) -> None:
    before = host.oom_kills()
    assert before >= 0
    with opened("local", tmp_path) as gangs:
        status, _ = gangs.run(actor_job("eat=2000"))
    assert host.oom_kills() > before
    assert status.oom_kill
    assert status.exits[0].signal == signal.SIGKILL


def test_f33_a_rank_killed_by_somebody_else(small_cgroup: Path, tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        status, _ = gangs.run(actor_job(f"kill={int(signal.SIGKILL)}"))
    assert status.exits[0].signal == signal.SIGKILL
    assert not status.oom_kill
