"""mpirun's own ways: hosts, hostfiles, MPI programs, two hosts with a network between them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotune.errors import BadInput
from autotune.launchers import check_place, end_gang, get_launcher, host
from autotune.trial import Job
from tests.engines import two_hosts
from tests.launchers.gangs import Gangs, actor_job, log_text, need, wait_until
from tests.launchers.test_contract import places
from tests.launchers.test_slurm import PROGRAM

MPI_PROGRAM = r"""
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    int rank, size, sum, name;
    char host[MPI_MAX_PROCESSOR_NAME];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(host, &name);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("rank %d=%s of %d sum %d\n", rank, getenv("RANK"), size, sum);
    MPI_Finalize();
    return 0;
}
"""


@pytest.fixture
def options(engine_options: Callable[[str], Any]) -> dict[str, Any]:
    """Options for this machine's mpirun."""
    return {"grace_s": 1.0, "peer_grace_s": 1.0, **engine_options("mpi")}


@pytest.fixture
def mpi_program(tmp_path: Path) -> Path:
    """A compiled program that needs MPI."""
    if shutil.which("mpicc") is None:
        need("not installed: mpicc (package libopenmpi-dev)")
    source = tmp_path / "sum.c"
    source.write_text(MPI_PROGRAM)
    program = tmp_path / "sum"
    subprocess.run(["mpicc", "-o", program, source], check=True)
    return program


@pytest.fixture
def far(make_gangs: Callable[..., Gangs], options: dict[str, Any], hosts: Any) -> Gangs:
    """Gangs on the two hosts; mpirun runs beside them."""
    network = ("oob_tcp_if_include", "btl_tcp_if_include")
    args = [word for name in network for word in ("--mca", name, hosts.network)]
    args += ["--mca", "plm_rsh_agent", str(hosts.agent), "--mca", "btl", "tcp,self"]
    there = {"hosts": [f"{address}:4" for address in hosts.addresses], "mpirun_args": args}
    return make_gangs("mpi", {**options, **there, "node_python": sys.executable})


def test_a_program_that_is_mpi_itself(make_gangs, options, mpi_program: Path) -> None:
    gangs = make_gangs("mpi", options)
    handle = gangs.start(Job((str(mpi_program),), per="rank", gpus_per_node=4, time_limit_s=60.0))
    status = gangs.finish(handle)
    trial_dir = Path(handle["trial_dir"])
    assert [e.code for e in status.exits] == [0] * 4, (trial_dir / "engine.log").read_text()
    texts = [log_text(trial_dir, rank) for rank in range(4)]
    assert texts == [f"rank {rank}={rank} of 4 sum 6" for rank in range(4)]


def test_a_hostfile_is_used(make_gangs, options, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("localhost slots=4\n")
    gangs = make_gangs("mpi", {"hostfile": str(hostfile)})
    status, _ = gangs.run(actor_job("say=x", per="rank", gpus_per_node=4))
    assert [e.code for e in status.exits] == [0] * 4


def test_more_ranks_than_slots_is_told_by_mpirun(make_gangs, options) -> None:
    gangs = make_gangs("mpi", {"hosts": ["localhost:2"]})
    status, _ = gangs.run(actor_job("say=x", per="rank", gpus_per_node=4))
    assert status.state == "lost" and status.detail
    more = make_gangs("mpi", {"hosts": ["localhost:2"], "oversubscribe": True})
    status, _ = more.run(actor_job("say=x", per="rank", gpus_per_node=4))
    assert [e.code for e in status.exits] == [0] * 4


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not both"):
        get_launcher("mpi", {"hosts": ["a"], "hostfile": "b"})
    with pytest.raises(BadInput, match="no such file"):
        get_launcher("mpi", {"hostfile": str(tmp_path / "nowhere")})
    with pytest.raises(BadInput, match="wants 3 nodes, hosts or hostfile name 1"):
        check_place(get_launcher("mpi", {"hosts": ["a:8"]}), Job(("true",), nodes=3))
    with pytest.raises(BadInput, match="no program 'no-mpirun'"):
        get_launcher("mpi", {"mpirun": "no-mpirun"}).submit(Job(("true",)), tmp_path, "t")


def test_ssh_options_are_passed_through(make_gangs, options, tmp_path: Path) -> None:
    said = tmp_path / "said"
    agent = tmp_path / "ssh"
    agent.write_text(f'#!/bin/sh\necho "$@" >> {said}\nexit 255\n')
    agent.chmod(0o755)
    far = {"hosts": ["192.0.2.77:1"], "ssh_args": "-p 2222 -i key"}
    gangs = make_gangs("mpi", {**far, "mpirun_args": ["--mca", "plm_rsh_agent", str(agent)]})
    status, _ = gangs.run(actor_job("say=x"))
    assert status.state == "lost"
    assert re.search(r"-p 2222 -i key 192\.0\.2\.77 .*orted", said.read_text())


def test_the_ssh_agent_is_the_clients_alone(make_gangs, options, monkeypatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent.1")
    gangs = make_gangs("mpi", options)
    handle = gangs.start(actor_job("env=SSH_AUTH_SOCK,PATH", "say=up", "sleep=60"))
    wait_until(lambda: "up" in log_text(Path(handle["trial_dir"])))
    client = Path(f"/proc/{handle['pid']}/environ").read_bytes()
    assert b"SSH_AUTH_SOCK=/run/agent.1" in client
    assert places(Path(handle["trial_dir"]))["SSH_AUTH_SOCK"] is None


def test_a_killed_mpirun_leaves_nothing(make_gangs, options) -> None:
    gangs = make_gangs("mpi", options)
    job = actor_job("orphan", "say=up", "sleep=60", per="rank", gpus_per_node=2)
    handle = gangs.start(job)
    for rank in (0, 1):
        wait_until(lambda rank=rank: "up" in log_text(Path(handle["trial_dir"]), rank))
    os.kill(handle["pid"], signal.SIGKILL)
    assert end_gang(gangs.launcher, handle, 0.5) == []
    assert host.marked(f"AUTOTUNE_TOKEN={handle['token']}") == []


def test_two_hosts_share_one_rendezvous(far: Gangs, hosts: two_hosts.TwoHosts) -> None:
    job = actor_job(
        "env=RANK,NODE_RANK,LOCAL_RANK,MASTER_ADDR", per="rank", nodes=2, gpus_per_node=2
    )
    handle = far.start(job)
    status = far.finish(handle)
    trial_dir = Path(handle["trial_dir"])
    assert [e.code for e in status.exits] == [0] * 4, (trial_dir / "engine.log").read_text()
    first, second = hosts.addresses
    assert [e.node for e in status.exits] == [first, first, second, second]
    told = [places(trial_dir, rank) for rank in range(4)]
    assert [entry["NODE_RANK"] for entry in told] == ["0", "0", "1", "1"]
    assert {entry["MASTER_ADDR"] for entry in told} == {hosts.addresses[0]}


def test_mpi_over_two_hosts(far: Gangs, mpi_program: Path) -> None:
    job = Job((str(mpi_program),), per="rank", nodes=2, gpus_per_node=2, time_limit_s=60.0)
    handle = far.start(job)
    status = far.finish(handle)
    trial_dir = Path(handle["trial_dir"])
    assert [e.code for e in status.exits] == [0] * 4, (trial_dir / "engine.log").read_text()
    assert log_text(trial_dir, 3) == "rank 3=3 of 4 sum 6"


def test_a_host_given_as_an_address_is_left_out_by_what_its_part_tells(far: Gangs) -> None:
    status, _ = far.run(actor_job("say=x", per="node", nodes=2))
    first, second = status.nodes
    assert not far.launcher.avoid([first], 2)
    assert far.launcher.avoid([first], 1)
    again, _ = far.run(actor_job("say=x", per="node"))
    assert again.nodes == (second,)


@pytest.mark.slow
def test_torchrun_over_two_hosts_really_reduces(far: Gangs) -> None:
    pytest.importorskip("torch")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "reduce.py")
    env = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0", "TP_SOCKET_IFNAME": "eth0"}
    files = {"reduce.py": PROGRAM}
    job = Job(torchrun, env, files, per="node", nodes=2, gpus_per_node=1, time_limit_s=120.0)
    handle = far.start(job)
    status = far.finish(handle, 150.0)
    trial_dir = Path(handle["trial_dir"])
    assert [e.code for e in status.exits] == [0, 0], log_text(trial_dir)
    assert "sum 3 of 2" in log_text(trial_dir, 0) and "sum 3 of 2" in log_text(trial_dir, 1)


def test_a_host_that_is_cut_off_is_swept_as_far_as_it_goes(far: Gangs, hosts) -> None:
    handle = far.start(actor_job("say=up", "sleep=60", per="node", nodes=2))
    wait_until(lambda: "up" in log_text(Path(handle["trial_dir"]), 1))
    two_hosts.ip("-n", hosts.namespaces[1], "link", "set", "eth0", "down")
    assert end_gang(far.launcher, handle, 0.5) == []
    assert far.launcher.poll(handle).state in ("exited", "lost")
