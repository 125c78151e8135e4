"""Ray's own ways: groups kept and given back, folders not shared, keepers that die, two hosts."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from autotune.errors import BadInput, EngineLost
from autotune.launchers import end_gang, get_launcher, host
from tests.engines import ray as engine
from tests.engines import two_hosts
from tests.launchers.gangs import Gangs, actor_job, log_text, need, wait_until
from tests.launchers.test_contract import places
from tests.launchers.test_slurm import PROGRAM

FAR_PROGRAM = """
import json, sys
from pathlib import Path
from autotune.trial import Job
from tests.launchers.gangs import log_text, opened
folder, job, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
with opened("ray", Path(folder), options) as gangs:
    handle = gangs.start(Job(**job))
    status = gangs.finish(handle, 150.0)
    texts = [log_text(Path(handle["trial_dir"]), rank) for rank in range(len(status.exits))]
print(json.dumps([status.state, status.detail, [[e.code, e.node] for e in status.exits], texts]))
"""


@pytest.fixture
def options(engine_options: Callable[[str], Any]) -> dict[str, Any]:
    """Options for the tests' cluster of two nodes with eight fake GPUs each."""
    return {"grace_s": 1.0, "peer_grace_s": 1.0, **engine_options("ray")}


@pytest.fixture
def gangs(make_gangs: Callable[..., Gangs], options: dict[str, Any]) -> Gangs:
    """Gangs on that cluster."""
    return make_gangs("ray", options)


def group_of(handle: dict[str, Any]) -> str:
    """The placement group that a gang ran on."""
    return str(json.loads((Path(handle["trial_dir"]) / "ray.json").read_text())["group"])


def test_two_nodes_one_rendezvous_and_the_group_is_reused(gangs: Gangs) -> None:
    words = "env=RANK,NODE_RANK,LOCAL_RANK,MASTER_ADDR,MASTER_PORT,CUDA_VISIBLE_DEVICES"
    job = actor_job(words, per="rank", nodes=2, gpus_per_node=2)
    first, second = gangs.start(job), None
    status = gangs.finish(first)
    assert [e.code for e in status.exits] == [0] * 4, status
    told = [places(Path(first["trial_dir"]), rank) for rank in range(4)]
    assert [entry["NODE_RANK"] for entry in told] == ["0", "0", "1", "1"]
    assert len({(entry["MASTER_ADDR"], entry["MASTER_PORT"]) for entry in told}) == 1
    assert all(len((entry["CUDA_VISIBLE_DEVICES"] or "").split(",")) == 2 for entry in told)
    second = gangs.start(job)
    assert [e.code for e in gangs.finish(second).exits] == [0] * 4
    assert group_of(second) == group_of(first)


def test_more_than_the_cluster_has_waits_with_a_reason(gangs: Gangs) -> None:
    handle = gangs.start(actor_job("say=x", per="node", nodes=3, gpus_per_node=1))
    status = wait_until(lambda: [s for s in [gangs.launcher.poll(handle)] if s.detail])[0]
    assert status.state == "pending"
    assert "3 nodes with 1 GPU and 1 CPU each: 2 of the cluster's 2 nodes" in status.detail
    assert end_gang(gangs.launcher, handle, 0.5) == []
    assert gangs.launcher.poll(handle).cancelled


def test_a_gang_waits_for_another_and_takes_its_nodes(gangs: Gangs) -> None:
    busy = gangs.start(actor_job("say=up", "sleep=60", per="node", nodes=2, gpus_per_node=8))
    wait_until(lambda: "up" in log_text(Path(busy["trial_dir"])))
    waiting = gangs.start(actor_job("say=x", per="node", nodes=2, gpus_per_node=8))
    told = wait_until(lambda: gangs.launcher.poll(waiting).detail)
    assert "other work holds them" in told
    end_gang(gangs.launcher, busy, 0.5)
    assert [e.code for e in gangs.finish(waiting).exits] == [0, 0]
    assert group_of(waiting) == group_of(busy)


def test_a_folder_that_nodes_do_not_see(make_gangs, options) -> None:
    gangs = make_gangs("ray", {**options, "shared": False})
    files = {"data/name.txt": "trial"}
    words = ("only=1:sleep=0.5", "only=1:exit=9", "say=up", "sleep=60")
    handle = gangs.start(actor_job(*words, per="node", nodes=2, files=files))
    status = gangs.finish(handle)
    told = {e.rank: (e.code, e.signal) for e in status.exits}
    assert told == {0: (None, signal.SIGTERM), 1: (9, None)}, status
    assert log_text(Path(handle["trial_dir"])) == "up"
    where = gangs.start(actor_job("env=AUTOTUNE_TRIAL_DIR"))
    gangs.finish(where)
    folder = places(Path(where["trial_dir"]))["AUTOTUNE_TRIAL_DIR"]
    assert folder != where["trial_dir"]
    wait_until(lambda: not Path(str(folder)).exists())


def test_much_output_comes_over_whole(make_gangs, options) -> None:
    gangs = make_gangs("ray", {**options, "shared": False})
    status, trial_dir = gangs.run(actor_job("flood=12", "say=end"))
    assert [e.code for e in status.exits] == [0]
    text = log_text(trial_dir)
    assert text.endswith("end") and len(text) > 11 * 1024 * 1024


def test_a_killed_keeper_takes_its_gang_along(gangs: Gangs) -> None:
    handle = gangs.start(actor_job("orphan", "deaf", "say=up", "sleep=60"))
    wait_until(lambda: "up" in log_text(Path(handle["trial_dir"])))
    gangs.launcher.poll(handle)
    told = json.loads((Path(handle["trial_dir"]) / "supervisor.0.json").read_text())
    for pid, start_time in keepers():
        if holds_lifeline(pid, told["pid"]):
            host.send_signal(pid, start_time, signal.SIGKILL)
    status = gangs.finish(handle)
    assert status.state == "lost" and "the keeper on" in status.detail, status
    living = [n["node_id"] for n in gangs.launcher._bridge.ask("nodes")["nodes"] if n["alive"]]  # type: ignore[attr-defined]
    assert set(status.unfit) < set(living), "one of the two nodes, though they share a host"
    wait_until(lambda: not host.marked(f"AUTOTUNE_TOKEN={handle['token']}"))


def keepers() -> list[tuple[int, int]]:
    """Ray's processes of this host that are keepers."""
    found = []
    for pid in host.all_pids():
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::Keeper"):
            found.append((pid, (host.process_stat(pid) or ("", 0, 0))[2]))
    return found


def holds_lifeline(keeper: int, supervisor: int) -> bool:
    """Whether a keeper has the other end of a supervisor's standard input."""
    pipe = Path(f"/proc/{supervisor}/fd/0").readlink()
    for entry in Path(f"/proc/{keeper}/fd").iterdir():
        with suppress(OSError):
            if entry.readlink() == pipe:
                return True
    return False


def test_nodes_are_given_back_when_nobody_asks(make_gangs, options) -> None:
    gangs = make_gangs("ray", {**options, "idle_s": 2.0})
    handle = gangs.start(actor_job("say=x", "sleep=1"))
    wait_until(lambda: log_text(Path(handle["trial_dir"])))
    gangs.launcher.poll(handle)
    os.kill(gangs.launcher._bridge._process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(EngineLost, match="its driver ended"):
        gangs.launcher.poll(handle)
    gangs.started.clear()
    later = get_launcher("ray", options)
    reserved = later._bridge.ask  # type: ignore[attr-defined]
    wait_until(lambda: group_of(handle) not in reserved("reserved")["names"])


def test_refusals() -> None:
    with pytest.raises(BadInput, match="expected true or false"):
        get_launcher("ray", {"shared": "yes"})
    with pytest.raises(BadInput, match="expected names and amounts"):
        get_launcher("ray", {"resources": [1]})


@contextmanager
def far_cluster(hosts: two_hosts.TwoHosts, folder: Path) -> Iterator[Callable[..., Any]]:
    """A Ray node on each host; yields what runs a command on one of them."""
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": engine.TOKEN, "PYTHONPATH": str(Path.cwd())}
    env = {**os.environ, **own, "RAY_USAGE_STATS_ENABLED": "0"}
    start = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=4"]
    start += ["--num-gpus=1", f"--object-store-memory={80 * 1024 * 1024}"]
    roles = ["--head", "--port=6399", "--include-dashboard=false", ""]

    def on(number: int, argv: list[str]) -> list[str]:
        return [str(hosts.agent), hosts.addresses[number], shlex.join(argv)]

    def run(number: int, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            on(number, argv), env=env, capture_output=True, text=True, timeout=240, check=False
        )

    nodes = []
    scratch = tempfile.mkdtemp(prefix="at-ray-", dir="/tmp")
    roles[-1] = f"--temp-dir={scratch}"
    try:
        for number, address in enumerate(hosts.addresses):
            role = roles if number == 0 else [f"--address={hosts.addresses[0]}:6399"]
            argv = [*start, *role, f"--node-ip-address={address}"]
            with (folder / f"node-{number}.log").open("wb") as log:
                nodes.append(subprocess.Popen(on(number, argv), env=env, stdout=log, stderr=log))
            wait_until(lambda path=Path(log.name): b"Ray runtime started" in path.read_bytes(), 150)
        yield run
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(60)
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.mark.slow
def test_torchrun_over_two_hosts_really_reduces(tmp_path: Path, hosts) -> None:
    pytest.importorskip("torch")
    if engine.missing():
        need(str(engine.missing()))
    env = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0", "TP_SOCKET_IFNAME": "eth0"}
    job = {
        "argv": [sys.executable, "-m", "torch.distributed.run", "reduce.py"],
        "env": env,
        "files": {"reduce.py": PROGRAM},
        "per": "node",
        "nodes": 2,
        "gpus_per_node": 1,
        "time_limit_s": 120.0,
    }
    with far_cluster(hosts, tmp_path) as run:
        options = {"shared": False, "address": f"{hosts.addresses[0]}:6399"}
        words = [sys.executable, "-c", FAR_PROGRAM, str(tmp_path / "gangs")]
        done = run(0, [*words, json.dumps(job), json.dumps(options)])
    assert done.returncode == 0, done.stderr
    state, detail, exits, texts = json.loads(done.stdout.splitlines()[-1])
    assert state == "exited" and sorted(exits) == [[0, "host-1"], [0, "host-2"]], detail
    assert "sum 3 of 2" in texts[0] and "sum 3 of 2" in texts[1]


def test_a_node_set_aside_gets_no_gang(make_gangs, engine_options) -> None:
    gangs = make_gangs("ray", engine_options("ray"))
    launcher: Any = gangs.launcher
    nodes = [node["node_id"] for node in launcher._bridge.ask("nodes")["nodes"] if node["alive"]]
    assert not launcher.avoid(["stranger"], 1)
    assert not launcher.avoid(nodes[:1], len(nodes))
    assert launcher.avoid(nodes[:1], len(nodes) - 1)
    whole = actor_job("say=up", "sleep=60", per="node", gpus_per_node=8)
    first, second = gangs.start(whole), gangs.start(whole)
    wait_until(lambda: launcher.poll(first).state == "running")
    assert wait_until(lambda: launcher.poll(second).detail).startswith("waits for 1 node")
