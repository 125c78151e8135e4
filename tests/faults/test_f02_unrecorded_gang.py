"""F02, the launcher's half: a gang whose handle was never recorded is found by its token."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from autotune.launchers import end_gang, get_launcher, host
from tests.launchers.gangs import actor_job, opened, wait_until

PROGRAM = """
import os, signal, sys
from pathlib import Path
from autotune.launchers import get_launcher
from autotune.trial import Job
job = Job(("sleep", "60"), time_limit_s=60.0)
get_launcher("local").submit(job, Path(sys.argv[1]), sys.argv[2])
os.kill(os.getpid(), signal.SIGKILL)
"""


def submit_and_die(trial_dir: Path, token: str) -> None:
    """A controller that is killed as soon as the gang was spawned."""
    argv = [sys.executable, "-c", PROGRAM, str(trial_dir), token]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL


def test_f02_found_by_its_own_record_and_adopted(tmp_path: Path) -> None:
    submit_and_die(tmp_path, "token-f02-a")
    wait_until((tmp_path / "supervisor.0.json").exists)
    local = get_launcher("local")
    handle = local.find(tmp_path, "token-f02-a")
    assert handle is not None and local.poll(handle).state == "running"
    assert end_gang(local, handle, 1.0) == []
    assert local.poll(handle).cancelled


def test_f02_found_by_its_token_before_it_has_told_anything(tmp_path: Path) -> None:
    submit_and_die(tmp_path, "token-f02-b")
    wait_until((tmp_path / "supervisor.0.json").exists)
    (tmp_path / "supervisor.0.json").unlink()
    local = get_launcher("local")
    handle = local.find(tmp_path, "token-f02-b")
    assert handle is not None and host.lives(handle["pid"], handle["start_time"])
    assert local.find(tmp_path, "token-f02-c") is None
    assert end_gang(local, handle, 1.0) == []


def test_f02_one_that_ended_meanwhile_still_tells_its_exit(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job("exit=5"))
        gangs.finish(handle)
        found = gangs.launcher.find(Path(handle["trial_dir"]), handle["token"])
        assert gangs.launcher.poll(found).exits[0].code == 5


def test_f02_a_former_attempts_records_are_not_taken_for_ours(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job("say=x"), token="former")
        gangs.finish(handle)
        trial_dir = Path(handle["trial_dir"])
        assert gangs.launcher.find(trial_dir, "later") is None
        later = gangs.launcher.submit(actor_job("sleep=60"), trial_dir, "later")
        gangs.started.append(later)
        assert gangs.launcher.poll(later).state == "running"
        os.kill(later["pid"], 0)
