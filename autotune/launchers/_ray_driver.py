"""The process that speaks Ray for a controller: ``python -m autotune.launchers._ray_driver``.

Ray ends a driver's process when its cluster goes away, and takes over its signal handlers; a
controller has to outlive the one and needs the other. So the driver is a child that answers
one JSON object a line, and whose death is just one more thing to tell. It never waits for a
gang: each answer is what is known by now.

    group  one placement group, one keeper (``_ray_keeper.py``) a bundle; kept for the next gang
    gang   one trial on one group
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotune.launchers import _ray_keeper, cgroup, host, members
from autotune.launchers._ray_cluster import why_pending
from autotune.launchers._room import gangs_that_fit, slots

NAMESPACE = "autotune"
LOOK_PERIOD_S = 0.2
ASK_PERIOD_S = 1.0
ASK_BOUND_S = 10.0
HEAD_CHECK_S = 1.0


class Lost(Exception):
    """A gang whose node or keeper is gone."""


@dataclass
class Group:
    """Reserved nodes: the keepers by part, and which gang they serve now."""

    name: str
    shape: str
    keepers: list[Any]
    placement: Any = None
    token: str | None = None
    started: bool = False


@dataclass
class Gang:
    """One trial on a group, as far as the keepers have told."""

    token: str
    trial_dir: Path
    group: Group
    orders: list[dict[str, Any]] = field(default_factory=list)
    starting: list[Any] = field(default_factory=list)
    looks: list[Any] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    looked_at: list[float] = field(default_factory=list)
    passed_on: set[str] = field(default_factory=set)
    asked_at: float = 0.0
    why: str = ""
    submitted_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        parts = len(self.group.keepers)
        self.looks = [None] * parts
        self.told = [{} for _ in range(parts)]
        self.looked_at = [0.0] * parts


class Driver:
    """Groups and gangs of one controller on one Ray cluster."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        import ray

        self.options = options
        ray.init(
            address=options["address"] or "auto",
            namespace=NAMESPACE,
            log_to_driver=False,
            configure_logging=False,
        )
        for module in (_ray_keeper, members, cgroup, host):
            ray.cloudpickle.register_pickle_by_value(module)
        self.keeper_class = ray.remote(_ray_keeper.Keeper)
        self.sweep_task = ray.remote(_ray_keeper.sweep)
        self.head = str(ray.get_runtime_context().gcs_address)
        self.head_checked = time.monotonic()
        self.groups: dict[str, Group] = {}
        self.gangs: dict[str, Gang] = {}
        self.aside: set[str] = set()
        self.homes: dict[str, set[str]] = {}

    # -- requests

    def submit(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a group or make one, and have its keepers start the gang once it stands."""
        bundle, nodes, parts = request["bundle"], request["nodes"], request["parts"]
        shape = json.dumps([bundle, nodes, parts])
        group = self._idle(shape) or self._new_group(shape, bundle, nodes, parts)
        gang = Gang(request["token"], Path(request["trial_dir"]), group, request["orders"])
        self.gangs[gang.token] = gang
        self._start(gang)
        return {"group": group.name}

    def poll(self, request: dict[str, Any]) -> dict[str, Any]:
        """pending, running, gone (no supervisor is left) or lost; why, and on which nodes."""
        self._check_head()
        gang = self._gang(request)
        if gang is None:
            return {"state": "lost", "detail": "none of its keepers knows it", "nodes": []}
        try:
            return self._progress(gang)
        except Lost as error:
            nodes = [told["host"] for told in gang.told if "host" in told]
            self._drop(gang.group)
            del self.gangs[gang.token]
            return {"state": "lost", "detail": str(error), "nodes": nodes}

    def cancel(self, request: dict[str, Any]) -> dict[str, Any]:
        """End a gang: withdrawn while it is pending, else asked to end or killed."""
        self._check_head()
        gang = self._gang(request)
        if gang is not None and gang.starting and not self._any_started(gang):
            self._drop(gang.group)
            del self.gangs[gang.token]
            return {"withdrawn": True}
        if gang is not None:
            for keeper in gang.group.keepers:
                keeper.cancel.remote(gang.token, request["request"], request["kill"])
        if request["kill"]:
            self._sweep(request["token"], True)
        return {"withdrawn": False}

    def survivors(self, request: dict[str, Any]) -> dict[str, Any]:
        """What carries the token on the nodes that still answer."""
        self._check_head()
        import ray

        token = request["token"]
        gang = self.gangs.get(token)
        if gang is None:
            return {"left": self._sweep(token, False)}
        refs = [keeper.survivors.remote(token) for keeper in gang.group.keepers]
        done, late = ray.wait(refs, num_returns=len(refs), timeout=ASK_BOUND_S)
        left = ["a node's keeper does not answer"] * len(late)
        for ref in done:
            try:
                left += ray.get(ref)
            except ray.exceptions.RayError:
                left += self._sweep(token, False)
        return {"left": list(dict.fromkeys(left))}

    def find(self, request: dict[str, Any]) -> dict[str, Any]:
        """Whether keepers know a gang; what was reserved for one they do not is given back."""
        gang = self._gang(request)
        if gang is None:
            self._drop(Group(request["group"], "", []))
        return {"known": gang is not None}

    def done(self, request: dict[str, Any]) -> dict[str, Any]:
        """The gang was judged: its group serves the next one."""
        gang = self.gangs.pop(request["token"], None)
        if gang is not None:
            for keeper in gang.group.keepers:
                keeper.forget.remote(gang.token)
            gang.group.token = None
            if not gang.group.shape:
                self._drop(gang.group)  # adopted: its shape is not known here
        return {}

    def reserved(self, request: dict[str, Any]) -> dict[str, Any]:
        """Names of the placement groups that hold nodes or wait for some."""
        import ray

        table = ray.util.placement_group_table().values()
        return {"names": [group["name"] for group in table if group["state"] != "REMOVED"]}

    def nodes(self, request: dict[str, Any]) -> dict[str, Any]:
        """Every node: its id, address, host, whether it is alive, GPUs and CPUs."""
        import ray

        return {
            "nodes": [
                {
                    "node_id": node["NodeID"],
                    "address": node["NodeManagerAddress"],
                    "host": node["NodeManagerHostname"],
                    "alive": node["Alive"],
                    "resources": {
                        name: node["Resources"][name]
                        for name in ("GPU", "CPU")
                        if name in node["Resources"]
                    },
                }
                for node in ray.nodes()
            ]
        }

    def avoid(self, request: dict[str, Any]) -> dict[str, Any]:
        """Set nodes aside by id, address or host; not when too few would remain."""
        import ray

        alive = [node for node in ray.nodes() if node["Alive"]]
        names = ("NodeID", "NodeManagerAddress", "NodeManagerHostname")
        hit = {node["NodeID"] for node in alive if set(request["names"]) & {node[n] for n in names}}
        left = {node["NodeID"] for node in alive if len(node["Resources"]) > 2} - hit - self.aside
        if not hit or len(left) < max(1, request["needed"]):
            return {"done": False}
        self.aside |= hit
        for group in [g for g in self.groups.values() if not g.token]:
            self._drop(group)  # it may stand on one of them
        return {"done": True}

    def room(self, request: dict[str, Any]) -> dict[str, Any]:
        """How many gangs of a shape the nodes that are not set aside hold at once."""
        import ray

        usable = [n for n in ray.nodes() if n["Alive"] and n["NodeID"] not in self.aside]
        per_node = [slots(node["Resources"], request["bundle"]) for node in usable]
        return {"room": gangs_that_fit(per_node, request["nodes"])}

    def leave(self) -> None:
        """Give back what is reserved and serves no gang."""
        for group in list(self.groups.values()):
            if group.token is None:
                self._drop(group)

    # -- groups

    def _idle(self, shape: str) -> Group | None:
        return next((g for g in self.groups.values() if g.shape == shape and not g.token), None)

    def _new_group(self, shape: str, bundle: dict[str, float], nodes: int, parts: int) -> Group:
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        for group in [g for g in self.groups.values() if not g.token]:
            self._drop(group)  # of other shapes: in the way of this one
        name = f"autotune-{uuid.uuid4().hex[:12]}"
        avoided: dict[str, Any] = {}
        if self.aside:
            avoid = f"!in({','.join(sorted(self.aside))})"
            avoided["bundle_label_selector"] = [{"ray.io/node-id": avoid}] * nodes
        strategy = "STRICT_SPREAD" if nodes > 1 else "STRICT_PACK"
        placement = placement_group(
            [bundle] * nodes, strategy=strategy, name=name, lifetime="detached", **avoided
        )
        keepers = [
            self.keeper_class.options(
                name=f"{name}:{index}",
                namespace=NAMESPACE,
                lifetime="detached",
                max_concurrency=8,
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(placement, index),
            ).remote(placement.id.hex(), self.options["idle_s"])
            for index in range(parts)
        ]
        group = self.groups[name] = Group(name, shape, keepers, placement)
        return group

    def _drop(self, group: Group) -> None:
        import ray

        self.groups.pop(group.name, None)
        with contextlib.suppress(ValueError, ray.exceptions.RayError):
            placement = group.placement or ray.util.get_placement_group(group.name)
            ray.util.remove_placement_group(placement)

    # -- gangs

    def _start(self, gang: Gang) -> None:
        gang.group.token = gang.token
        keepers = gang.group.keepers
        gang.starting = [
            keeper.start.remote(order, keepers[0] if order["index"] else None)
            for keeper, order in zip(keepers, gang.orders, strict=True)
        ]

    def _gang(self, request: dict[str, Any]) -> Gang | None:
        """The gang, taken over from an earlier controller where it is not ours."""
        import ray

        token = request["token"]
        if token in self.gangs or not request.get("group"):
            return self.gangs.get(token)
        try:
            names = [f"{request['group']}:{index}" for index in range(request["parts"])]
            keepers = [ray.get_actor(name, NAMESPACE) for name in names]
            asked = [keeper.look.remote(token, {}) for keeper in keepers]
            told = ray.get(asked, timeout=ASK_BOUND_S)
        except (ValueError, ray.exceptions.RayError):
            return None
        if not all(entry["known"] for entry in told):
            return None
        group = Group(request["group"], "", keepers, token=token, started=True)
        self.groups[group.name] = group
        gang = self.gangs[token] = Gang(token, Path(request["trial_dir"]), group)
        gang.told = told
        self._note_homes(gang)
        return gang

    def _progress(self, gang: Gang) -> dict[str, Any]:
        if gang.starting and not self._has_started(gang):
            why = self._why_pending(gang)
            return {"state": "pending", "detail": why, "nodes": [], "group": gang.group.name}
        now = time.monotonic()
        for index in range(len(gang.looks)):
            self._look(gang, index, now)
        self._pass_on(gang)
        nodes = [told["host"] for told in gang.told if "host" in told]
        alive = any(told.get("alive", True) for told in gang.told)
        state = "running" if alive else "gone"
        return {"state": state, "detail": "", "nodes": nodes, "group": gang.group.name}

    @staticmethod
    def _any_started(gang: Gang) -> bool:
        import ray

        return gang.group.started or bool(ray.wait(gang.starting, timeout=0)[0])

    def _has_started(self, gang: Gang) -> bool:
        import ray

        done, waiting = ray.wait(gang.starting, num_returns=len(gang.starting), timeout=0)
        for ref in done:
            self._answer(gang, gang.starting.index(ref), ref)
        if not waiting:
            gang.told = [self._answer(gang, i, ref) for i, ref in enumerate(gang.starting)]
            self._note_homes(gang)
            gang.starting = []
            gang.group.started = True
            return True
        idle = None if gang.group.started else self._idle(gang.group.shape)
        if idle is not None and not done:
            self._drop(gang.group)
            gang.group = idle
            self._start(gang)
        return False

    def _look(self, gang: Gang, index: int, now: float) -> None:
        """Take a part's answer if it is there, else ask it if it is time."""
        import ray

        asked = gang.looks[index]
        if asked is None and now - gang.looked_at[index] >= LOOK_PERIOD_S:
            offsets = {} if gang.told[index].get("shared") else self._offsets(gang)
            gang.looked_at[index] = now
            asked = gang.group.keepers[index].look.remote(gang.token, offsets)
            gang.looks[index] = asked
        if asked is None or not ray.wait([asked], timeout=0)[0]:
            return
        gang.looks[index] = None
        answer = self._answer(gang, index, asked)
        if not answer["known"]:
            raise Lost(f"the keeper on {answer['host']} knows nothing of it")
        shared = gang.told[index].get("shared", answer["names"] is None)
        self._mirror(gang, answer)
        behind = bool(answer["files"])
        gang.told[index] = {**answer, "shared": shared, "files": None}
        gang.told[index]["alive"] = answer["alive"] or behind
        if behind:
            gang.looked_at[index] = 0.0

    def _answer(self, gang: Gang, index: int, ref: Any) -> dict[str, Any]:
        """What a keeper answered; Lost when it is gone, its node set aside if that still lives."""
        import ray

        try:
            found: dict[str, Any] = ray.get(ref)
            return found
        except ray.exceptions.RayTaskError as error:
            raise Lost(f"part {index} could not be started: {error.cause or error}") from error
        except ray.exceptions.RayError as error:
            raise Lost(self._what_was_lost(gang, index, error)) from error

    def _what_was_lost(self, gang: Gang, index: int, error: Exception) -> str:
        import ray

        told = gang.told[index]
        if "node_id" not in told:
            return f"part {index}: its keeper never came up ({type(error).__name__})"
        where = f"Ray node {told['host']} ({told['address']})"
        bound = time.monotonic() + 3.0  # Ray tells of the actor before it tells of the node
        while time.monotonic() < bound:
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            if told["node_id"] not in alive:
                return f"{where} was lost"
            time.sleep(0.2)
        self.aside.add(told["node_id"])
        return f"the keeper on {where} died; the node is set aside"

    def _note_homes(self, gang: Gang) -> None:
        self.homes[gang.token] = {told["node_id"] for told in gang.told}

    def _why_pending(self, gang: Gang) -> str:
        """What it waits for; empty once it has its nodes and the keepers come up."""
        import ray

        now = time.monotonic()
        if now - gang.asked_at >= ASK_PERIOD_S:
            gang.asked_at = now
            bundle, nodes, _ = json.loads(gang.group.shape)
            state = ray.util.placement_group_table(gang.group.placement)["state"]
            gang.why = "" if state == "CREATED" else why_pending(bundle, nodes, self.aside)
        bound = self.options["wait_s"]
        if gang.why and bound is not None and now - gang.submitted_at > bound:
            raise TimeoutError(f"waited {bound:.0f} s in vain: {gang.why}")
        return gang.why

    def _sweep(self, token: str, kill: bool) -> list[str]:
        """Ask the token's nodes themselves, where no keeper answers any more."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        refs = [
            self.sweep_task.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(token, kill)
            for node in self.homes.get(token, set()) & alive
        ]
        left: list[str] = []
        for ref in ray.wait(refs, num_returns=len(refs), timeout=ASK_BOUND_S)[0] if refs else ():
            with contextlib.suppress(ray.exceptions.RayError):
                left += ray.get(ref)
        return left

    # -- folders that are not shared

    @staticmethod
    def _offsets(gang: Gang) -> dict[str, int]:
        root = gang.trial_dir
        paths = [*root.glob("*.json"), *root.glob("*.log"), *root.glob("logs/*")]
        return {str(path.relative_to(root)): path.stat().st_size for path in paths}

    @staticmethod
    def _mirror(gang: Gang, answer: dict[str, Any]) -> None:
        """Write what a keeper sent to the controller's side, and drop what the node dropped."""
        for name, offset, data in answer["files"]:
            path = gang.trial_dir / name
            if name.endswith(".json"):
                _ray_keeper.write_bytes(path, data)
                continue
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.seek(offset)
                file.write(data)

    def _pass_on(self, gang: Gang) -> None:
        """Tell every node of a part that ended, where they do not share the folder."""
        if len(gang.group.keepers) < 2 or all(told.get("shared") for told in gang.told):
            return
        for path in gang.trial_dir.glob("exit.*.json"):
            if path.name not in gang.passed_on:
                gang.passed_on.add(path.name)
                for keeper in gang.group.keepers:
                    keeper.put.remote(gang.token, path.name, path.read_bytes())

    # -- the cluster

    def _check_head(self) -> None:
        """ConnectionError when the head refuses connections for longer than a restart takes."""
        if time.monotonic() - self.head_checked < HEAD_CHECK_S or self.head.count(":") != 1:
            return
        address, port = self.head.split(":")
        bound = time.monotonic() + self.options["head_grace_s"]
        while True:
            try:
                socket.create_connection((address, int(port)), 2.0).close()
            except OSError as error:
                if time.monotonic() >= bound:
                    raise ConnectionError(f"its head ({self.head}) is lost: {error}") from error
                time.sleep(0.5)
                continue
            self.head_checked = time.monotonic()
            return


def main() -> None:
    """Answer requests, one JSON object a line, until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever Ray prints must not look like an answer
    driver: Driver | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if driver is None:
                driver, answer = Driver(request), {}
            else:
                answer = getattr(driver, request.pop("do"))(request)
        except Exception as error:  # the controller tells it, and goes on or stops
            answer = {"error": str(error) or repr(error), "kind": type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    if driver is not None:
        driver.leave()


if __name__ == "__main__":
    main()
