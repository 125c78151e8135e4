"""F07: a child that double-forked into its own session is found, by token and by ancestry."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from autotune.launchers import end_gang, host
from tests.launchers.gangs import actor_job, log_text, opened, wait_until


def orphan_of(trial_dir: Path) -> int:
    """The orphan's pid, once it has told it."""
    return int(wait_until(lambda: re.search(r"orphan (\d+)", log_text(trial_dir)))[1])


@pytest.mark.parametrize("kind", ["orphan", "orphan=bare"])
def test_f07_left_behind_by_a_rank_that_ended(tmp_path: Path, kind: str) -> None:
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job(kind, "say=done"))
        status = gangs.finish(handle)
        assert status.exits[0].code == 0
        pid = orphan_of(Path(handle["trial_dir"]))
        assert host.process_stat(pid) is None
        assert host.read_object(f"{handle['trial_dir']}/exit.0.json")["leftovers"] == 1


@pytest.mark.parametrize("kind", ["orphan", "orphan=bare"])
def test_f07_ended_with_a_cancelled_gang(tmp_path: Path, kind: str) -> None:
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job(kind, "sleep=60"))
        pid = orphan_of(Path(handle["trial_dir"]))
        assert host.process_stat(pid) is not None
        assert os.getsid(pid) != handle["pid"]
        assert end_gang(gangs.launcher, handle, 0.3) == []
        assert host.process_stat(pid) is None


def test_f07_found_by_token_when_the_supervisor_was_killed(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job("orphan", "sleep=60"))
        pid = orphan_of(Path(handle["trial_dir"]))
        os.kill(handle["pid"], signal.SIGKILL)
        assert gangs.finish(handle).state == "lost"
        assert any(str(pid) in text for text in gangs.launcher.survivors(handle))
        assert end_gang(gangs.launcher, handle, 0.3) == []
        stat = host.process_stat(pid)  # reaping it is now up to this machine's init
        assert stat is None or stat[0] in "ZX"
