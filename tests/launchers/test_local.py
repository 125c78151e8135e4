"""The local launcher: handles that outlive it, cancellation, GPUs shared out, clear refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autotune.errors import BadInput, InfrastructureError
from autotune.launchers import end_gang, get_launcher, host
from autotune.launchers.nvml import Gpu
from autotune.trial import Job
from tests.launchers.gangs import Gangs, actor_job, log_text, wait_until


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(BadInput, match=r"unknown launcher 'locl'.*'local'.*Known: .*local"):
        get_launcher("locl")
    with pytest.raises(BadInput, match=r"unknown option 'gpu'.*Did you mean 'gpus'"):
        get_launcher("local", {"gpu": [0]})
    with pytest.raises(BadInput, match="expected seconds"):
        get_launcher("local", {"grace_s": -1})
    with pytest.raises(BadInput, match="list of words"):
        get_launcher("local", {"container_prefix": "docker run"})


def test_what_cannot_start_is_refused_before_anything_starts(local: Gangs, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no-such-program"):
        local.start(Job(("no-such-program",)))
    with pytest.raises(BadInput, match="not executable"):
        local.start(Job(("./missing.sh",)))
    with pytest.raises(BadInput, match="working directory"):
        local.start(Job(("true",), cwd=str(tmp_path / "nowhere")))
    with pytest.raises(BadInput, match="2 nodes"):
        local.start(Job(("true",), nodes=2, per="node"))
    with pytest.raises(BadInput, match="outside its trial's folder"):
        local.start(Job(("true",), files={"../escape": "x"}))
    assert local.started == []


def test_a_program_without_an_interpreter_says_so(local: Gangs, tmp_path: Path) -> None:
    script = tmp_path / "broken.sh"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    status, trial_dir = local.run(Job((str(script),)))
    assert status.state == "exited" and "cannot start" in status.detail
    assert [(e.rank, e.code) for e in status.exits] == [(0, 127)]
    assert "command not found" in log_text(trial_dir)


def test_files_of_the_job_stand_before_it_starts(local: Gangs) -> None:
    job = Job(("cat", "sub/config.json"), files={"sub/config.json": '{"a": 1}\n'})
    _, trial_dir = local.run(job)
    assert log_text(trial_dir) == '{"a": 1}'
    assert (trial_dir / "sub" / "config.json").stat().st_mode & 0o777 == 0o600


def test_another_controller_polls_cancels_and_finds(local: Gangs) -> None:
    handle = local.start(actor_job("say=up", "sleep=60"), token="another")
    handle = json.loads(json.dumps(handle))
    program = (
        "import sys, json; from autotune.launchers import get_launcher, end_gang;"
        "from pathlib import Path;"
        "handle = json.loads(sys.argv[1]); local = get_launcher('local');"
        "found = local.find(Path(handle['trial_dir']), handle['token']);"
        "print(local.poll(handle).state, found['pid'] == handle['pid'],"
        " found['start_time'] == handle['start_time'], local.find(Path('/tmp'), 'none'));"
        "left = end_gang(local, handle, 2.0); status = local.poll(handle);"
        "print(left, status.state, status.cancelled, status.exits[0].signal)"
    )
    argv = [sys.executable, "-c", program, json.dumps(handle)]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    assert told == ["running True True None", "[] exited True 15"]
    assert local.launcher.poll(handle).state == "exited"


def test_cancel_returns_at_once_and_escalates(local: Gangs) -> None:
    handle = local.start(actor_job("deaf", "say=up", "sleep=60"))
    wait_until(lambda: "up" in log_text(Path(handle["trial_dir"])))
    local.launcher.cancel(handle, 0.4)
    assert local.launcher.poll(handle).state == "running"
    status = local.finish(handle)
    assert status.cancelled and status.exits[0].signal == signal.SIGKILL
    assert local.launcher.survivors(handle) == []


def test_a_stopped_supervisor_is_killed_by_escalation(local: Gangs, monkeypatch) -> None:
    monkeypatch.setattr(local.launcher._clock, "margin_s", 0.2)
    handle = local.start(actor_job("sleep=60"))
    wait_until(lambda: len(local.launcher.survivors(handle)) == 2)
    os.kill(handle["pid"], signal.SIGSTOP)
    assert end_gang(local.launcher, handle, 0.3) == []
    assert local.launcher.poll(handle).state == "lost"


def test_cancel_before_the_ranks_are_up(local: Gangs) -> None:
    """Whenever it comes, it is a cancelled gang with an exit record, not a lost one."""
    for delay_s in (0.0, 0.01, 0.02, 0.03, 0.05):
        handle = local.start(actor_job("sleep=60"))
        time.sleep(delay_s)
        assert end_gang(local.launcher, handle, 1.0) == []
        status = local.launcher.poll(handle)
        assert (status.state, status.cancelled) == ("exited", True)


def test_escalation_finds_what_cleared_its_environment(local: Gangs, monkeypatch) -> None:
    monkeypatch.setattr(local.launcher._clock, "margin_s", 0.2)
    handle = local.start(actor_job("orphan=bare", "say=up", "sleep=60"))
    wait_until(lambda: "up" in log_text(Path(handle["trial_dir"])))
    orphan = int(log_text(Path(handle["trial_dir"])).split()[1])
    os.kill(handle["pid"], signal.SIGSTOP)
    assert end_gang(local.launcher, handle, 0.3) == []
    wait_until(lambda: (host.process_stat(orphan) or "Z")[0] in "ZX")


def test_stacks_are_dumped_on_request(local: Gangs) -> None:
    handle = local.start(actor_job("say=up", "sleep=60"))
    trial_dir = Path(handle["trial_dir"])
    wait_until(lambda: "up" in log_text(trial_dir))
    local.launcher.cancel(handle, 1.0, dump_stacks=True)
    local.finish(handle)
    dumps = "".join(path.read_text() for path in (trial_dir / "logs").glob("stacks.*.txt"))
    assert "act (" in dumps and "actor.py" in dumps


def test_gpus_are_shared_out_among_parallel_gangs(make_gangs) -> None:
    gangs = make_gangs("local", {"gpus": [4, 5, 6, 7]})
    job = actor_job("env=CUDA_VISIBLE_DEVICES", "sleep=60", gpus_per_node=2)
    first, second = gangs.start(job), gangs.start(job)
    assert (first["gpus"], second["gpus"]) == (["4", "5"], ["6", "7"])
    with pytest.raises(InfrastructureError, match="0 of 4 are free"):
        gangs.start(job)
    with pytest.raises(BadInput, match="wants 8 GPUs"):
        gangs.start(actor_job("say=x", gpus_per_node=8))
    assert end_gang(gangs.launcher, first, 1.0) == []
    third = gangs.start(job)
    assert third["gpus"] == ["4", "5"]
    wait_until(lambda: '"4,5"' in log_text(Path(third["trial_dir"])))


def test_without_the_option_the_visible_gpus_are_shared_out(make_gangs, monkeypatch) -> None:
    gangs = make_gangs("local")
    job = actor_job("say=x", gpus_per_node=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,GPU-c")
    assert gangs.start(job)["gpus"] == ["GPU-a", "GPU-b"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    eight = [Gpu(index, f"GPU-{index}") for index in range(8)]
    monkeypatch.setattr("autotune.launchers.local.read_gpus", lambda: eight)
    assert gangs.start(job)["gpus"] == ["0", "1"]
    monkeypatch.setattr("autotune.launchers.local.read_gpus", list)
    assert gangs.start(job)["gpus"] == []


def test_an_adopted_gang_keeps_its_gpus(make_gangs) -> None:
    before, after = (make_gangs("local", {"gpus": [0, 1]}) for _ in range(2))
    job = actor_job("sleep=60", gpus_per_node=1)
    handle = before.start(job)
    assert after.launcher.poll(handle).state == "running"
    assert after.start(job)["gpus"] == ["1"]


def test_trial_python_and_container_prefix(make_gangs, tmp_path: Path) -> None:
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    options = {"python": str(python), "container_prefix": ["env", "IN_CONTAINER={rank}"]}
    gangs = make_gangs("local", options)
    code = "import os, sys; print(sys.argv[1:], os.environ['IN_CONTAINER'], os.environ['PATH'])"
    _, trial_dir = gangs.run(Job(("python", "-c", code, "a b", "$(id)")))
    text = log_text(trial_dir)
    assert text.startswith(f"['a b', '$(id)'] 0 {python.parent}:")


def test_docker_runs_are_ended_by_container_id(make_gangs, tmp_path: Path, monkeypatch) -> None:
    calls = tmp_path / "calls"
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\nif [ "$1" = run ]; then echo cafe01 > "$3"; '
        "trap '' TERM; sleep 60 & wait; wait; fi\n"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    gangs = make_gangs("local", {"container_prefix": ["docker", "run", "--rm", "image"]})
    handle = gangs.start(Job(("python", "train.py"), env={"A": "secret?"}))
    told = Path(handle["trial_dir"]) / "containers" / "rank0.cid"
    wait_until(lambda: told.exists() and "cafe01" in told.read_text())
    assert end_gang(gangs.launcher, handle, 0.3) == []
    run, kill = calls.read_text().splitlines()
    assert kill == "rm --force cafe01"
    assert run.endswith("--env A --rm image python train.py".replace("python ", "python3 ", 1))
    assert "secret?" not in run


def test_a_restarted_host_is_lost(local: Gangs) -> None:
    handle = local.start(actor_job("sleep=60"))
    elsewhere = {**handle, "boot_id": "another boot"}
    assert local.launcher.poll(elsewhere).state == "lost"
    local.launcher.cancel(elsewhere, 0.0)
    assert host.lives(handle["pid"], handle["start_time"])
