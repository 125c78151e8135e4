"""F08: a gang is (pid, start time); a stranger that got the pid is never touched."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from autotune.launchers import end_gang, host
from tests.launchers.gangs import actor_job, opened


def test_f08_a_handle_whose_pid_now_belongs_to_a_stranger(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        time.sleep(0.05)  # start times count in ticks of 10 ms
        with opened("local", tmp_path) as gangs:
            handle = gangs.start(actor_job("say=x"))
            gangs.finish(handle)
            (Path(handle["trial_dir"]) / "exit.0.json").unlink()
            reused = {**handle, "pid": stranger.pid}
            assert gangs.launcher.poll(reused).state == "lost"
            assert gangs.launcher.survivors(reused) == []
            assert end_gang(gangs.launcher, reused, 0.0) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_f08_signals_need_the_right_start_time() -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        start_time = host.process_stat(stranger.pid)[2]
        assert not host.send_signal(stranger.pid, start_time - 1, signal.SIGKILL)
        assert stranger.poll() is None
        assert host.send_signal(stranger.pid, start_time, signal.SIGKILL)
        assert stranger.wait() == -signal.SIGKILL
        assert not host.send_signal(stranger.pid, start_time, signal.SIGKILL)
    finally:
        stranger.kill()
        stranger.wait()


def test_f08_a_namesake_is_left_alone(tmp_path: Path) -> None:
    """Same program, same arguments, no token: not ours, whatever its name."""
    job = actor_job("sleep=60")
    namesake = subprocess.Popen(job.argv, start_new_session=True)
    try:
        with opened("local", tmp_path) as gangs:
            handle = gangs.start(job)
            assert end_gang(gangs.launcher, handle, 0.3) == []
        assert namesake.poll() is None
    finally:
        namesake.kill()
        namesake.wait()
