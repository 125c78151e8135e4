"""A Ray cluster of several nodes on this machine, to try the launcher: started, found, stopped.

    $AUTOTUNE_HOME/cluster/cluster.json    address, processes by pid and start time
    $AUTOTUNE_HOME/cluster/token           Ray's authentication token, 0600

It listens on the loopback device only. All its processes carry a mark in their environment;
what is stopped is what was started, never another Ray of this machine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from autotune.errors import BadInput, InfrastructureError
from autotune.launchers import host
from autotune.launchers._ray_bridge import Bridge
from autotune.launchers.nvml import read_gpus
from autotune.study.paths import home, make_private_folder

LOOPBACK = "127.0.0.2"  # Ray takes 127.0.0.1 for the address of the network card
UP_BOUND_S = 120.0
DOWN_BOUND_S = 30.0
FAKE_GPUS = 8
STORE_BYTES = 100 * 1024 * 1024
WORKER_PORTS = range(10002, 20000)  # `ray start`'s own; it refuses a head's port among them


def cluster_file() -> Path:
    """Where the try-out cluster's address and processes are written down."""
    return home() / "cluster" / "cluster.json"


def token_file() -> Path:
    """Where its token lies, 0600."""
    return home() / "cluster" / "token"


def auth_environment() -> dict[str, str]:
    """What every process that speaks to the cluster needs."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file())}


def running_cluster() -> dict[str, Any] | None:
    """What was written down of a cluster of which something still runs."""
    told = host.read_object(str(cluster_file()))
    if told is None or not any(host.lives(p["pid"], p["start_time"]) for p in told["processes"]):
        return None
    return told


def local_cluster() -> tuple[str | None, dict[str, str]]:
    """Its address and the environment to reach it; (None, {}) when there is none."""
    told = running_cluster()
    return (told["address"], auth_environment()) if told else (None, {})


def has_invented_gpus() -> bool:
    """Whether a try-out cluster runs whose GPUs are none of this machine's."""
    told = running_cluster()
    return told is not None and not told["real_gpus"]


def start_cluster(nodes: int, gpus: int | None, cpus: int) -> dict[str, Any]:
    """Start a head and ``nodes`` - 1 more; returns once all have joined.

    ``gpus`` a node: None splits this machine's, or invents eight a node where it has none.
    BadInput when one runs already; InfrastructureError when Ray does not come up.
    """
    if running_cluster() is not None:
        raise BadInput("a try-out cluster is up already: `autotune cluster down` first")
    ray = Path(sys.executable).with_name("ray")
    if not ray.is_file():
        raise BadInput(f"{ray}: no such program. pip install 'autotune-llm[ray]'")
    folder = cluster_file().parent
    make_private_folder(folder)
    descriptor = os.open(token_file(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    mark = secrets.token_hex(8)
    address = f"{LOOPBACK}:{_head_port()}"
    scratch = f"/tmp/autotune-ray-{mark}"  # short: Ray's sockets lie below it
    told: dict[str, Any] = {"address": address, "mark": mark, "scratch": scratch, "processes": []}
    real = [str(gpu.index) for gpu in read_gpus()]
    share = len(real) // nodes if gpus is None and real else (FAKE_GPUS if gpus is None else gpus)
    told["real_gpus"] = share * nodes <= len(real)
    for index in range(nodes):
        own = real[index * share : (index + 1) * share] if told["real_gpus"] else []
        place = ["--head", f"--port={address.split(':')[1]}", f"--temp-dir={scratch}"]
        argv = [str(ray), "start", "--block", *(place if not index else [f"--address={address}"])]
        argv += [f"--node-ip-address={LOOPBACK}", f"--num-gpus={share}", f"--num-cpus={cpus}"]
        argv += [f"--object-store-memory={STORE_BYTES}", "--include-dashboard=false"]
        argv += ["--disable-usage-stats"]
        argv = [word for word in argv if index == 0 or "dashboard" not in word]
        if index == 1:
            _wait_for_head(address, told)
        told["processes"].append(_start_node(argv, index, mark, own))
        host.write_whole(str(cluster_file()), told)
    _wait_for_nodes(address, nodes, told)
    return told


def stop_cluster() -> bool:
    """Stop what ``start_cluster`` started; False when there was nothing."""
    told = host.read_object(str(cluster_file()))
    if told is None:
        return False
    for process in reversed(told["processes"]):
        host.send_signal(process["pid"], process["start_time"], signal.SIGTERM)
    bound = time.monotonic() + DOWN_BOUND_S
    while left := host.marked(f"AUTOTUNE_CLUSTER={told['mark']}"):
        late = time.monotonic() > bound - DOWN_BOUND_S / 2
        for pid, start_time in left if late else ():
            host.send_signal(pid, start_time, signal.SIGKILL)
        if time.monotonic() > bound:
            raise InfrastructureError(f"processes of the cluster would not die: {left}")
        time.sleep(0.2)
    shutil.rmtree(told["scratch"], ignore_errors=True)
    cluster_file().unlink(missing_ok=True)
    token_file().unlink(missing_ok=True)
    return True


def nodes_of(address: str) -> list[dict[str, Any]]:
    """The cluster's nodes: address, whether alive, resources, what is free in all of it."""
    settings = {"address": address, "wait_s": None, "idle_s": 60.0, "head_grace_s": 2.0}
    bridge = Bridge(settings, auth_environment())
    try:
        found: list[dict[str, Any]] = bridge.ask("nodes")["nodes"]
        return found
    finally:
        bridge.close()


def _head_port() -> int:
    while (port := host.free_port()) in WORKER_PORTS:
        pass
    return port


def _start_node(argv: list[str], index: int, mark: str, gpus: list[str]) -> dict[str, Any]:
    env = {**os.environ, **auth_environment(), "AUTOTUNE_CLUSTER": mark}
    env.pop("RAY_ADDRESS", None)
    if gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    log = os.open(
        cluster_file().with_name(f"node-{index}.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600
    )
    try:
        child = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    finally:
        os.close(log)
    return {"pid": child.pid, "start_time": (host.process_stat(child.pid) or ("", 0, 0))[2]}


def _wait_for_head(address: str, told: dict[str, Any]) -> None:
    name, port = address.split(":")
    bound = time.monotonic() + UP_BOUND_S
    while True:
        try:
            socket.create_connection((name, int(port)), 1.0).close()
            return
        except OSError:
            _fail_if_ended(told, bound)
        time.sleep(0.2)


def _wait_for_nodes(address: str, nodes: int, told: dict[str, Any]) -> None:
    _wait_for_head(address, told)
    bound = time.monotonic() + UP_BOUND_S
    while len([node for node in nodes_of(address) if node["alive"]]) < nodes:
        _fail_if_ended(told, bound)


def _fail_if_ended(told: dict[str, Any], bound: float) -> None:
    """InfrastructureError, with Ray's last words, when a node ended or it takes too long."""
    for index, process in enumerate(told["processes"]):
        if not host.lives(process["pid"], process["start_time"]) or time.monotonic() > bound:
            log = cluster_file().with_name(f"node-{index}.log")
            words = log.read_text(errors="replace").strip().splitlines()[-3:]
            stop_cluster()
            raise InfrastructureError(f"Ray did not come up ({log}): {' '.join(words)}")
