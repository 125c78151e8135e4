"""A Ray cluster as a driver sees it: its nodes, its head, and what a gang waits for."""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any

from autotune.launchers import _ray_keeper

NAMES = ("NodeID", "NodeManagerAddress", "NodeManagerHostname")
SWEEP_BOUND_S = 10.0
NODE_ANSWER_BOUND_S = 2.0
HEAD_CHECK_S = 1.0


def living() -> list[dict[str, Any]]:
    """Ray's facts about the nodes that are alive."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def named(nodes: Iterable[Mapping[str, Any]], names: Iterable[str]) -> set[str]:
    """Ids of the nodes that are called one of ``names``: by id, address or host."""
    wanted = set(names)
    return {str(node["NodeID"]) for node in nodes if wanted & {node[name] for name in NAMES}}


def name_of(node_id: str) -> str:
    """What to call a node: its host's name, or its id where other nodes share the host."""
    nodes = living()
    host = next((n["NodeManagerHostname"] for n in nodes if n["NodeID"] == node_id), node_id)
    return host if len(named(nodes, [host])) == 1 else node_id


def is_lost(node_id: str) -> bool:
    """Whether a node is gone: the head says so, or nobody listens at its address any more.

    The head learns of a node's end some seconds after the actors on it are gone.
    """
    node = next((node for node in living() if node["NodeID"] == node_id), None)
    if node is None:
        return True
    try:
        address = (node["NodeManagerAddress"], int(node["NodeManagerPort"]))
        socket.create_connection(address, NODE_ANSWER_BOUND_S).close()
    except OSError:
        return True
    return False


class Head:
    """The head's address, asked whether it still takes connections."""

    def __init__(self, address: str, grace_s: float) -> None:
        self.address = address
        self.grace_s = grace_s
        self.checked_at = time.monotonic()

    def check(self) -> None:
        """ConnectionError when it refuses connections for longer than a restart takes."""
        if time.monotonic() - self.checked_at < HEAD_CHECK_S or self.address.count(":") != 1:
            return
        host, port = self.address.split(":")
        bound = time.monotonic() + self.grace_s
        while True:
            try:
                socket.create_connection((host, int(port)), 2.0).close()
            except OSError as error:
                if time.monotonic() >= bound:
                    raise ConnectionError(f"its head ({self.address}) is lost: {error}") from error
                time.sleep(0.5)
                continue
            self.checked_at = time.monotonic()
            return


def sweep(node_ids: Iterable[str], token: str, kill: bool) -> list[str]:
    """What carries a token on these nodes, where no keeper answers any more; killed if asked."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = {node["NodeID"] for node in living()}
    refs = [
        _sweep_task()
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(token, kill)
        for node in set(node_ids) & alive
    ]
    left: list[str] = []
    for ref in ray.wait(refs, num_returns=len(refs), timeout=SWEEP_BOUND_S)[0] if refs else ():
        with contextlib.suppress(ray.exceptions.RayError):
            left += ray.get(ref)
    return left


@functools.cache
def _sweep_task() -> Any:
    import ray

    return ray.remote(_ray_keeper.sweep)


def amount(bundle: Mapping[str, float]) -> str:
    """A bundle in words: ``8 GPU and 1 CPU``."""
    return " and ".join(f"{value:g} {name}" for name, value in sorted(bundle.items(), reverse=True))


def why_pending(bundle: Mapping[str, float], nodes: int, aside: set[str]) -> tuple[str, bool]:
    """Which resources a gang of ``nodes`` bundles waits for; whether they can never come."""
    import ray

    want = f"{nodes} node{'s' * (nodes > 1)} with {amount(bundle)}{' each' * (nodes > 1)}"
    alive = living()
    usable = [node for node in alive if node["NodeID"] not in aside]
    fit = [node for node in usable if fits(node["Resources"], bundle)]
    if len(fit) >= nodes:
        free = ray.available_resources()
        left = ", ".join(f"{free.get(name, 0):g} {name}" for name in sorted(bundle, reverse=True))
        held = f"other work holds them (free in the whole cluster: {left})"
        return f"waits for {want}: {held}", False
    if len([node for node in alive if fits(node["Resources"], bundle)]) >= nodes:
        released = "mend them, then `autotune resume STUDY --release NODE`"
        return f"needs {want}, but {len(aside)} are set aside: {released}", True
    most = [
        f"{max((node['Resources'].get(name, 0) for node in usable), default=0):g} {name}"
        for name in sorted(bundle, reverse=True)
    ]
    told = (
        f"waits for {want}: {len(fit)} of the cluster's {len(usable)} nodes have that "
        f"(at most {' and '.join(most)} a node); an autoscaler or `ray start` can add some"
    )
    return told, False


def fits(resources: Mapping[str, float], bundle: Mapping[str, float]) -> bool:
    """Whether an empty node could hold a bundle."""
    return all(resources.get(name, 0) >= value for name, value in bundle.items())
