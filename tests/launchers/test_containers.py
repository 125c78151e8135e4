"""Trials in real containers: podman with runc and an image of busybox alone, made here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autotune.launchers import end_gang
from autotune.trial import Job
from tests.launchers.gangs import Gangs, log_text, need, wait_until

BUSYBOX = "/bin/busybox"
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
DEAF = "trap '' TERM; echo up; while true; do sleep 1; done"


@pytest.fixture(scope="module")
def podman() -> Iterator[list[str]]:
    """podman's words with storage of its own, and the image ``localhost/tiny`` in it."""
    for program in ("podman", "runc", BUSYBOX):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            need(f"not installed: {program} (packages podman, runc, busybox-static)")
    folder = Path(tempfile.mkdtemp(prefix="at-pod-", dir="/tmp"))
    words = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
    words += ["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]
    with tarfile.open(folder / "tiny.tar", "w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
    try:
        subprocess.run(
            [*words, "import", str(folder / "tiny.tar"), "localhost/tiny"],
            check=True, capture_output=True,
        )  # fmt: skip
        argv = [*words, "run", "--rm", "--network", "host", *LIMITS, "localhost/tiny", "sh", "-c"]
        tried = subprocess.run([*argv, "true"], capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            pytest.skip(f"this machine runs no containers: {tried.stderr.strip()[-200:]}")
        yield words
    finally:
        subprocess.run([*words, "rm", "--all", "--force"], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def gangs(podman: list[str], make_gangs: Callable[..., Gangs], tmp_path: Path) -> Gangs:
    """Gangs whose ranks are containers, the trial's folders mounted where they are."""
    prefix = [*podman, "run", "--rm", "--network", "host", *LIMITS]
    prefix += ["-v", f"{tmp_path}:{tmp_path}", "-w", str(tmp_path), "localhost/tiny"]
    return make_gangs("local", {"container_prefix": prefix, "grace_s": 0.5, "peer_grace_s": 0.5})


def shell(text: str, **fields: Any) -> Job:
    """A job that runs a line of shell in its container."""
    return Job(("sh", "-c", text), **{"time_limit_s": 60.0, **fields})


def containers(podman: list[str]) -> str:
    """Ids of all containers, running or not."""
    return subprocess.run(
        [*podman, "ps", "--all", "--quiet"], capture_output=True, text=True, check=True
    ).stdout


def test_ranks_know_their_place_and_their_code_comes_back(gangs: Gangs) -> None:
    line = 'ls / | tr "\\n" " "; echo "$RANK of $WORLD_SIZE $GIVEN"; exit $((RANK * 3))'
    job = shell(line, per="rank", gpus_per_node=2, env={"GIVEN": "a b", "CUDA_VISIBLE_DEVICES": ""})
    status, trial_dir = gangs.run(job)
    assert [(exit.rank, exit.code) for exit in status.exits] == [(0, 0), (1, 3)], status
    assert "0 of 2 a b" in log_text(trial_dir, 0) and "1 of 2 a b" in log_text(trial_dir, 1)
    assert "home" not in log_text(trial_dir, 0), "inside the image, not on the host"


def test_a_deaf_container_ends_with_its_trial(gangs: Gangs, podman: list[str]) -> None:
    handle = gangs.start(shell(DEAF))
    wait_until(lambda: "up" in log_text(Path(handle["trial_dir"])))
    assert len(containers(podman).split()) == 1
    assert end_gang(gangs.launcher, handle, 0.3) == []
    assert wait_until(lambda: containers(podman) == "")


def test_the_time_limit_ends_a_container(gangs: Gangs, podman: list[str]) -> None:
    status, _ = gangs.run(shell(DEAF, time_limit_s=2.0))
    assert status.deadline_hit
    assert wait_until(lambda: containers(podman) == "")


def test_a_container_does_not_outlive_a_killed_supervisor(gangs: Gangs) -> None:
    handle = gangs.start(shell(DEAF))
    wait_until(lambda: "up" in log_text(Path(handle["trial_dir"])))
    os.kill(handle["pid"], signal.SIGKILL)
    assert gangs.launcher.survivors(handle) != []
    assert end_gang(gangs.launcher, handle, 0.3) == []
