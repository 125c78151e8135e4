"""Slurm's own ways: queues, allocations, time limits, preemption, failed nodes, refusals."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autotune.errors import BadInput, InfrastructureError, PlaceSpent
from autotune.launchers import _slurm_commands, _slurm_limits, end_gang, get_launcher
from autotune.trial import Job
from tests.controller.conftest import Cli, cli
from tests.launchers.gangs import Gangs, actor_job, log_text, wait_until
from tests.launchers.test_contract import places

__all__ = ["cli"]


@pytest.fixture
def options(engine_options: Callable[[str], Any]) -> dict[str, Any]:
    """Options for the machine's own Slurm."""
    return {"grace_s": 1.0, "peer_grace_s": 1.0, **engine_options("slurm")}


@pytest.fixture
def gangs(make_gangs: Callable[..., Gangs], options: dict[str, Any]) -> Gangs:
    """Batch jobs."""
    return make_gangs("slurm", options)


@pytest.fixture
def allocation(options: dict[str, Any]) -> Iterator[str]:
    """The id of a running allocation of both nodes, five minutes long."""
    argv = ["salloc", "--no-shell", "--nodes=2", "--exclusive", "--time=5", "--gres=gpu:8"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stderr
    job_id = re.search(r"Granted job allocation (\d+)", told)[1]
    yield job_id
    subprocess.run(["scancel", job_id], check=True)
    wait_until(lambda: not _slurm_commands.run(["squeue", "-h"]).stdout.strip())


def up(handle: dict[str, Any], rank: int = 0) -> None:
    """Wait until a rank said `up`."""
    wait_until(lambda: "up" in log_text(Path(handle["trial_dir"]), rank))


def test_two_nodes_four_ranks_one_rendezvous(gangs: Gangs) -> None:
    names = "RANK,LOCAL_RANK,NODE_RANK,WORLD_SIZE,MASTER_ADDR,MASTER_PORT,SLURMD_NODENAME"
    status, trial_dir = gangs.run(actor_job(f"env={names}", per="rank", nodes=2, gpus_per_node=2))
    assert [(e.rank, e.code) for e in status.exits] == [(0, 0), (1, 0), (2, 0), (3, 0)], status
    told = [places(trial_dir, rank) for rank in range(4)]
    assert [entry["NODE_RANK"] for entry in told] == ["0", "0", "1", "1"]
    assert [entry["LOCAL_RANK"] for entry in told] == ["0", "1", "0", "1"]
    assert {entry["WORLD_SIZE"] for entry in told} == {"4"}
    assert len({(entry["MASTER_ADDR"], entry["MASTER_PORT"]) for entry in told}) == 1
    assert {path.name for path in trial_dir.glob("exit.*")} == {"exit.0.json", "exit.1.json"}


def test_a_rank_that_fails_on_one_node_ends_the_other(gangs: Gangs) -> None:
    words = ("only=3:sleep=0.3", "only=3:exit=9", "sleep=60")
    status, _ = gangs.run(actor_job(*words, per="rank", nodes=2, gpus_per_node=2))
    told = {e.rank: (e.code, e.signal) for e in status.exits}
    assert told == {0: (None, 15), 1: (None, 15), 2: (None, 15), 3: (9, None)}
    assert "rank 3 failed first" in status.detail


def test_gpus_are_asked_for_and_seen(gangs: Gangs) -> None:
    job = actor_job("env=CUDA_VISIBLE_DEVICES", gpus_per_node=3, per="node")
    _, trial_dir = gangs.run(job)
    assert places(trial_dir) == {"CUDA_VISIBLE_DEVICES": "0,1,2"}


def test_waiting_in_the_queue_counts_toward_no_limit(gangs: Gangs) -> None:
    first = gangs.start(actor_job("say=up", "sleep=60", nodes=2))
    up(first)
    second = gangs.start(actor_job("say=up", time_limit_s=4.0, nodes=2))
    status = gangs.launcher.poll(second)
    assert status.state == "pending" and "job" in status.detail
    assert gangs.launcher.survivors(second) != []
    time.sleep(4.5)
    end_gang(gangs.launcher, first, 0.5)
    status = gangs.finish(second)
    assert status.exits[0].code == 0 and not status.deadline_hit


def test_what_the_partition_can_never_grant_is_hopeless(gangs: Gangs, make_gangs, options) -> None:
    wide = gangs.start(actor_job("say=x", nodes=3))
    brief = make_gangs("slurm", {**options, "partition": "short"})
    long = brief.start(actor_job("say=x", time_limit_s=600.0))
    told = [
        wait_until(lambda g=g, h=h: [s for s in [g.launcher.poll(h)] if s.hopeless])[0].detail
        for g, h in ((gangs, wide), (brief, long))
    ]
    assert ": 3 nodes are asked for, partition main gives a job 2 at most" in told[0]
    assert ": a time limit of 13 min is asked for" in told[1]
    assert "partition short allows 1 min: lower trial.time_limit_s by 720 s or more" in told[1]
    with pytest.raises(BadInput, match=r"no trial could ever start: 3 nodes"):
        gangs.launcher.check(actor_job("say=x", nodes=3))  # type: ignore[attr-defined]
    either = get_launcher("slurm", {**options, "partition": "short,main"})
    either.check(actor_job("say=x", time_limit_s=600.0))  # type: ignore[attr-defined]


def test_a_study_stops_when_no_trial_can_start(cli: Cli, options: dict[str, Any]) -> None:
    """Before anything is created, where that is known; else once Slurm says so."""
    small = ("parameters.mode.values=[ok]", "budget.trials=2", "budget.finalists=0")
    run = ("run", "--space", "job.yaml", "--study", "s", "--launcher", "slurm")
    run += tuple(word for change in small for word in ("--set", change))
    said = cli(*run, "--launcher-option", "partition=short", expect=2).stderr
    assert "no trial could ever start: a time limit of 4 min" in said
    behind = "sbatch_args=[--partition=short]"
    said = cli(*run, "--parallel", "2", "--launcher-option", behind, expect=3).stderr
    assert "trial 0 can never start" in said and "lower trial.time_limit_s by 180 s" in said
    assert _slurm_commands.run(["squeue", "-h"]).stdout.strip() == "", "what waited was cancelled"
    assert {trial["outcome"] for trial in cli.json("status", "s")["trials"]} == {None}
    cli("resume", "s", "--launcher-option", "sbatch_args=[]")
    assert {trial["outcome"] for trial in cli.json("status", "s")["trials"]} == {"ok"}


def test_a_partition_that_lost_a_node_is_waited_for(gangs: Gangs) -> None:
    update = ["scontrol", "update", "nodename=n2"]
    subprocess.run([*update, "state=down", "reason=test"], check=True)
    try:
        gangs.launcher.check(actor_job("say=x", nodes=2))  # type: ignore[attr-defined]
        handle = gangs.start(actor_job("say=x", nodes=2))
        wait_until(lambda: gangs.launcher.poll(handle).detail)
        assert not gangs.launcher.poll(handle).hopeless
    finally:
        subprocess.run([*update, "state=resume"], check=False)
    assert gangs.finish(handle).state == "exited"


@pytest.mark.parametrize(
    ("reason", "hopeless"),
    [
        ("AssocMaxWallDurationPerJobLimit", True), ("QOSMaxNodePerJobLimit", True),
        ("QOSMinGRES", True), ("BadConstraints", True), ("InvalidQOS", True),
        ("Resources", False), ("Priority", False), ("ReqNodeNotAvail", False),
        ("AssocGrpGRESMinutes", False), ("QOSMaxJobsPerUserLimit", False), ("JobHeldUser", False),
    ],
)  # fmt: skip
def test_which_reasons_pass_by_themselves(reason: str, hopeless: bool) -> None:
    assert bool(_slurm_limits.never({"Reason": reason})) is hopeless


def test_a_queued_gang_is_cancelled_at_once(gangs: Gangs) -> None:
    first = gangs.start(actor_job("say=up", "sleep=60", nodes=2))
    up(first)
    second = gangs.start(actor_job("say=up", nodes=2))
    assert end_gang(gangs.launcher, second, 1.0) == []
    status = gangs.launcher.poll(second)
    assert status.state == "exited" and status.cancelled
    assert gangs.launcher.poll(first).state == "running"


def test_a_deaf_supervisor_is_cancelled_by_slurm(gangs: Gangs, monkeypatch) -> None:
    monkeypatch.setattr(gangs.launcher._clock, "margin_s", 0.5)
    handle = gangs.start(actor_job("say=up", "sleep=60"))
    up(handle)
    stopped = [line for line in gangs.launcher.survivors(handle) if "supervisor.py" in line]
    for line in stopped:
        if "python" in line:
            os.kill(int(line.split()[0]), 19)
    assert end_gang(gangs.launcher, handle, 0.5) == []
    assert gangs.launcher.poll(handle).state == "exited"


def test_cancelled_by_somebody_else(gangs: Gangs) -> None:
    handle = gangs.start(actor_job("say=up", "sleep=60"))
    up(handle)
    subprocess.run(["scancel", handle["job_id"]], check=True)
    status = gangs.finish(handle)
    assert status.state == "exited" and status.cancelled and "CANCELLED" in status.detail


def test_preempted_is_lost_and_nobodys_fault(gangs: Gangs, make_gangs, options) -> None:
    handle = gangs.start(actor_job("say=up", "sleep=60", nodes=2))
    up(handle)
    urgent = make_gangs("slurm", {**options, "partition": "urgent"})
    other = urgent.start(actor_job("say=up", nodes=2))
    status = gangs.finish(handle)
    assert status.state == "lost" and "preempted" in status.detail
    assert urgent.finish(other).exits[0].code == 0


def test_a_failed_node_is_lost(gangs: Gangs) -> None:
    handle = gangs.start(actor_job("say=up", "sleep=60", per="node", nodes=2))
    up(handle)
    update = ["scontrol", "update", "nodename=n2"]
    subprocess.run([*update, "state=down", "reason=test"], check=True)
    try:
        status = gangs.finish(handle)
        assert status.state == "lost" and "a node failed" in status.detail
    finally:
        subprocess.run([*update, "state=resume"], check=False)  # it may have come back itself
    wait_until(lambda: not gangs.launcher.survivors(handle))


@pytest.mark.slow
def test_slurms_own_time_limit(make_gangs, options) -> None:
    """Shorter than ours, as an administrator may set it."""
    gangs = make_gangs("slurm", {**options, "sbatch_args": ["--time=1"]})
    handle = gangs.start(actor_job("deaf", "say=up", "sleep=300", time_limit_s=300.0))
    status = gangs.finish(handle, 240.0)
    assert status.state == "exited" and status.deadline_hit and not status.cancelled
    assert "TIMEOUT" in status.detail


def test_out_of_memory_is_told_by_slurm(gangs: Gangs) -> None:
    handle = gangs.start(actor_job("say=up", "kill=9"))
    gangs.finish(handle)
    assert not gangs.launcher.poll(handle).oom_kill
    with (Path(handle["trial_dir"]) / "engine.log").open("a") as log:
        log.write("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=12.0.\n")
    assert gangs.launcher.poll(handle).oom_kill


def test_a_forgotten_job_still_has_its_records(gangs: Gangs) -> None:
    handle = gangs.start(actor_job("exit=6"))
    gangs.finish(handle)
    forgotten = {**handle, "job_id": "999999"}
    assert gangs.launcher.poll(forgotten).exits[0].code == 6


def test_refusals_are_the_users(make_gangs, options) -> None:
    with pytest.raises(BadInput, match=r"sbatch refuses: .*partition"):
        make_gangs("slurm", {**options, "partition": "nowhere"}).start(actor_job("say=x"))
    with pytest.raises(BadInput, match=r"sbatch refuses: .*partition"):
        nowhere = get_launcher("slurm", {**options, "partition": "nowhere"})
        nowhere.check(actor_job("say=x"))  # type: ignore[attr-defined]
    strange = get_launcher("slurm", {**options, "gres": "unicorn"})
    with pytest.raises(BadInput, match=r"sbatch refuses: .*generic resource"):
        strange.check(actor_job("say=x", gpus_per_node=1))  # type: ignore[attr-defined]
    get_launcher("slurm", options).check(actor_job("say=x"))  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="unknown mode 'sometimes'"):
        get_launcher("slurm", {"mode": "sometimes"})
    with pytest.raises(BadInput, match="needs an allocation"):
        get_launcher("slurm", {"mode": "step", "allocation": ""})


def test_an_unreachable_controller_is_infrastructure(options, monkeypatch, tmp_path) -> None:
    conf = tmp_path / "slurm.conf"
    text = Path(os.environ["SLURM_CONF"]).read_text()
    conf.write_text(re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", text) + "MessageTimeout=2\n")
    monkeypatch.setenv("SLURM_CONF", str(conf))
    with pytest.raises(InfrastructureError, match="sbatch failed"):
        get_launcher("slurm", options).submit(actor_job("say=x"), tmp_path / "trial", "token")


def test_steps_inside_an_allocation(make_gangs, options, allocation: str) -> None:
    gangs = make_gangs("slurm", {**options, "allocation": allocation})
    assert gangs.launcher.mode == "step"
    job = actor_job("env=RANK,SLURM_JOB_ID", "say=up", per="rank", nodes=2, gpus_per_node=2)
    status, trial_dir = gangs.run(job)
    assert [e.code for e in status.exits] == [0, 0, 0, 0]
    assert places(trial_dir, 3) == {"RANK": "3", "SLURM_JOB_ID": allocation}
    handle = gangs.start(actor_job("say=up", "sleep=60", per="node", nodes=2))
    up(handle, 1)
    assert end_gang(gangs.launcher, handle, 1.0) == []
    assert gangs.launcher.poll(handle).cancelled


def test_nothing_starts_that_the_allocation_cannot_finish(
    make_gangs, options, allocation: str
) -> None:
    gangs = make_gangs("slurm", {**options, "allocation": allocation})
    with pytest.raises(PlaceSpent, match=r"has \d+ s left, a trial may take 601 s"):
        gangs.start(actor_job("say=x", time_limit_s=600.0))
    with pytest.raises(BadInput, match="wants 3 nodes, allocation"):
        gangs.start(actor_job("say=x", nodes=3))
    with pytest.raises(InfrastructureError, match=r"over or unknown|show job"):
        make_gangs("slurm", {**options, "allocation": "99999"}).start(actor_job("say=x", nodes=0))


def test_a_step_that_waits_for_its_nodes_is_cancelled(make_gangs, options, allocation) -> None:
    gangs = make_gangs("slurm", {**options, "allocation": allocation})
    first = gangs.start(actor_job("say=up", "sleep=60", per="node", nodes=2))
    up(first)
    second = gangs.start(actor_job("say=up", per="node", nodes=2))
    wait_until(lambda: gangs.launcher.poll(second).detail)
    assert gangs.launcher.poll(second).state == "pending"
    assert end_gang(gangs.launcher, second, 1.0) == []
    status = gangs.launcher.poll(second)
    assert (status.state, status.cancelled) == ("exited", True)
    assert gangs.launcher.poll(first).state == "running"


def test_a_lost_step_is_swept_from_its_nodes(make_gangs, options, allocation: str) -> None:
    gangs = make_gangs("slurm", {**options, "allocation": allocation})
    handle = gangs.start(actor_job("orphan", "say=up", "sleep=60"))
    up(handle)
    os.kill(handle["pid"], 9)
    assert end_gang(gangs.launcher, handle, 0.5) == []


PROGRAM = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1) * (dist.get_rank() + 1)
dist.all_reduce(total)
print("sum", int(total), "of", dist.get_world_size(), flush=True)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_torchrun_over_two_nodes_really_reduces(gangs: Gangs) -> None:
    pytest.importorskip("torch")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "reduce.py")
    env = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "TP_SOCKET_IFNAME": "lo"}
    files = {"reduce.py": PROGRAM}
    job = Job(torchrun, env, files, per="node", nodes=2, gpus_per_node=1, time_limit_s=120.0)
    handle = gangs.start(job)
    status = gangs.finish(handle, 150.0)
    trial_dir = Path(handle["trial_dir"])
    assert [e.code for e in status.exits] == [0, 0], log_text(trial_dir)
    assert "sum 3 of 2" in log_text(trial_dir, 0) and "sum 3 of 2" in log_text(trial_dir, 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("59", 59), ("1:00", 60), ("2:03:04", 7384), ("1-02:03:04", 93784), ("UNLIMITED", math.inf)],
)
def test_durations(text: str, seconds: float) -> None:
    assert _slurm_commands.parse_duration_s(text) == seconds


def test_a_node_set_aside_gets_no_job(gangs: Gangs) -> None:
    launcher: Any = gangs.launcher
    first, *others = sorted(_slurm_commands.node_names([], ""))
    assert not launcher.avoid(["stranger"], 1)
    assert not launcher.avoid([first], len(others) + 1)
    assert launcher.avoid([first], 1)
    handle = gangs.start(actor_job("say=x"))
    gangs.finish(handle)
    assert _slurm_commands.show_job(handle["job_id"])["NodeList"] in others
