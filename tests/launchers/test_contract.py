"""What every launcher must do, whatever runs underneath; a newcomer is picked up by its file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.errors import BadInput
from autotune.launchers import Launcher, end_gang, get_launcher, host
from tests.launchers.gangs import Gangs, actor_job, log_text, wait_until

PLACES = "RANK,LOCAL_RANK,WORLD_SIZE,LOCAL_WORLD_SIZE,NODE_RANK,NNODES,MASTER_ADDR,MASTER_PORT"


def places(trial_dir: Path, rank: int = 0) -> dict[str, str | None]:
    """The variables that a rank said it saw."""
    return json.loads(log_text(trial_dir, rank).partition("env ")[2].splitlines()[0])


def test_has_the_members(anywhere: Gangs) -> None:
    assert isinstance(anywhere.launcher, Launcher)
    with pytest.raises(BadInput, match=r"unknown option 'no_such_option'"):
        get_launcher(anywhere.launcher.name, {"no_such_option": 1})


def test_runs_to_its_end_and_tells_the_exit_code(anywhere: Gangs) -> None:
    job = actor_job("say=hello", "exit=3", files={"data/a.txt": "x"})
    handle = anywhere.start(job)
    assert json.loads(json.dumps(handle)) == handle
    assert handle["launcher"] == anywhere.launcher.name
    status = anywhere.finish(handle)
    assert status.state == "exited", status
    assert [(e.rank, e.code, e.signal) for e in status.exits] == [(0, 3, None)]
    assert not (status.cancelled or status.deadline_hit or status.oom_kill)
    trial_dir = Path(handle["trial_dir"])
    assert log_text(trial_dir) == "hello"
    assert (trial_dir / "data" / "a.txt").read_text() == "x"
    assert anywhere.launcher.survivors(handle) == []


def test_every_process_carries_the_token(anywhere: Gangs) -> None:
    handle = anywhere.start(actor_job("env=AUTOTUNE_TOKEN"))
    anywhere.finish(handle)
    assert places(Path(handle["trial_dir"])) == {"AUTOTUNE_TOKEN": handle["token"]}


def test_a_start_per_rank(anywhere: Gangs) -> None:
    job = actor_job(f"env={PLACES}", per="rank", gpus_per_node=2)
    status, trial_dir = anywhere.run(job)
    assert [(e.rank, e.code) for e in status.exits] == [(0, 0), (1, 0)], status
    told = [places(trial_dir, rank) for rank in (0, 1)]
    assert [entry["RANK"] for entry in told] == ["0", "1"]
    assert [entry["LOCAL_RANK"] for entry in told] == ["0", "1"]
    assert {entry["WORLD_SIZE"] for entry in told} == {"2"}
    assert {entry["NODE_RANK"] for entry in told} == {"0"}
    assert len({(entry["MASTER_ADDR"], entry["MASTER_PORT"]) for entry in told}) == 1
    assert told[0]["MASTER_PORT"] is not None


def test_a_start_per_node(anywhere: Gangs) -> None:
    job = actor_job("env=NODE_RANK,NNODES,PET_NPROC_PER_NODE", per="node", gpus_per_node=2)
    _, trial_dir = anywhere.run(job)
    assert places(trial_dir) == {"NODE_RANK": "0", "NNODES": "1", "PET_NPROC_PER_NODE": "2"}


def test_one_failed_rank_ends_the_others(anywhere: Gangs) -> None:
    words = ("only=1:sleep=0.3", "only=1:exit=9", "sleep=60")
    status, _ = anywhere.run(actor_job(*words, per="rank", gpus_per_node=2))
    told = {e.rank: (e.code, e.signal) for e in status.exits}
    assert told[1] == (9, None) and told[0] == (None, signal.SIGTERM)
    assert "rank 1 failed first" in status.detail and not status.cancelled


def test_the_deadline_is_the_jobs_own(anywhere: Gangs) -> None:
    status, _ = anywhere.run(actor_job("deaf", "say=up", "sleep=60", time_limit_s=3.0))
    assert status.deadline_hit and not status.cancelled, status
    assert status.exits[0].signal == signal.SIGKILL


def test_cancel_leaves_nothing(anywhere: Gangs) -> None:
    handle = anywhere.start(actor_job("orphan", "deaf", "say=up", "sleep=60"))
    wait_until(lambda: "up" in log_text(Path(handle["trial_dir"])))
    assert anywhere.launcher.poll(handle).state == "running"
    assert anywhere.launcher.survivors(handle) != []
    assert end_gang(anywhere.launcher, handle, 0.5) == []
    status = anywhere.launcher.poll(handle)
    assert status.state == "exited" and status.cancelled, status
    assert host.marked(f"AUTOTUNE_TOKEN={handle['token']}") == []
    anywhere.launcher.cancel(handle, 0.5)


def test_another_controller_takes_over(anywhere: Gangs, engine_options) -> None:
    name = anywhere.launcher.name
    handle = anywhere.start(actor_job("say=up", "sleep=3", "exit=4"))
    wait_until(lambda: "up" in log_text(Path(handle["trial_dir"])))
    program = (
        "import sys, json, time; from pathlib import Path;"
        "from autotune.launchers import get_launcher;"
        "handle, options = json.loads(sys.argv[1]), json.loads(sys.argv[2]);"
        "launcher = get_launcher(handle['launcher'], options);"
        "found = launcher.find(Path(handle['trial_dir']), handle['token']);"
        "assert launcher.find(Path('/tmp'), 'no-such-token') is None;\n"
        "for gang in (handle, found):\n"
        "    while launcher.poll(gang).state not in ('exited', 'lost'): time.sleep(0.05)\n"
        "    print(launcher.poll(gang).state, launcher.poll(gang).exits[0].code)"
    )
    argv = [sys.executable, "-c", program, json.dumps(handle), json.dumps(engine_options(name))]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["exited 4", "exited 4"], done.stderr


def test_a_program_that_is_not_there(anywhere: Gangs) -> None:
    job = actor_job("say=x")
    job = type(job)(("no-such-program-anywhere",), time_limit_s=20.0)
    try:
        handle = anywhere.start(job)
    except BadInput as error:
        assert "no-such-program-anywhere" in str(error)
        return
    status = anywhere.finish(handle)
    assert status.state == "exited" and [e.code for e in status.exits] == [127]
    assert "cannot start 'no-such-program-anywhere'" in status.detail


def test_arguments_are_never_a_shells(anywhere: Gangs) -> None:
    text = "$(touch injected); `touch injected` && a'b\"c *"
    status, trial_dir = anywhere.run(actor_job(f"say={text}"))
    assert status.exits[0].code == 0 and log_text(trial_dir) == text
    assert not list(trial_dir.rglob("injected"))


def test_secrets_reach_the_rank_and_no_file(anywhere: Gangs) -> None:
    job = actor_job("env=MY_API_KEY", env={"MY_API_KEY": "canary-value"})
    _, trial_dir = anywhere.run(job)
    assert places(trial_dir) == {"MY_API_KEY": "***"}  # it was printed, and hidden in the log
    files = [path for path in trial_dir.rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"canary-value" in path.read_bytes()]
