"""The process that speaks Ray for a controller: ``python -m autotune.launchers._ray_driver``.

Ray ends a driver's process when its cluster goes away, and takes over its signal handlers; a
controller has to outlive the one and needs the other. So the driver is a child that answers
one JSON object a line, and whose death is just one more thing to tell. It never waits for a
gang: each answer is what is known by now.

    group  one placement group, one keeper (``_ray_keeper.py``) a bundle (``_ray_groups.py``)
    gang   one trial on one group (``_ray_gang.py``)
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.launchers import _ray_keeper, cgroup, host, members
from autotune.launchers._ray_cluster import Head, sweep
from autotune.launchers._ray_gang import Gang, Lost
from autotune.launchers._ray_groups import NAMESPACE, Group, Groups

ASK_PERIOD_S = 1.0
ASK_BOUND_S = 10.0


class Driver:
    """Groups and gangs of one controller on one Ray cluster; its methods are the requests."""

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
        self.head = Head(str(ray.get_runtime_context().gcs_address), options["head_grace_s"])
        self.groups = Groups(options["idle_s"])
        self.gangs: dict[str, Gang] = {}
        self.homes: dict[str, set[str]] = {}

    # -- gangs

    def submit(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a group or make one, and have its keepers start the gang once it stands."""
        group = self.groups.take(request["bundle"], request["nodes"], request["parts"])
        gang = Gang(request["token"], Path(request["trial_dir"]), group, request["orders"])
        self.gangs[gang.token] = gang
        gang.start(group)
        return {"group": group.name}

    def poll(self, request: dict[str, Any]) -> dict[str, Any]:
        """pending, running, gone (no supervisor is left) or lost; why, and on which nodes."""
        self.head.check()
        gang = self._gang(request)
        if gang is None:
            return {"state": "lost", "detail": "none of its keepers knows it", "nodes": []}
        try:
            return self._progress(gang)
        except Lost as error:
            self._drop(gang)
            told = {"state": "lost", "detail": str(error), "nodes": gang.hosts}
            return {**told, "unfit": error.unfit}

    def cancel(self, request: dict[str, Any]) -> dict[str, Any]:
        """End a gang: withdrawn while it is pending, else asked to end or killed."""
        self.head.check()
        gang = self._gang(request)
        if gang is not None and gang.starting and not gang.keepers_are_up:
            self._drop(gang)
            return {"withdrawn": True}
        if gang is not None:
            for keeper in gang.group.keepers:
                keeper.cancel.remote(gang.token, request["request"], request["kill"])
        if request["kill"]:
            self._sweep(request["token"], True)
        return {"withdrawn": False}

    def survivors(self, request: dict[str, Any]) -> dict[str, Any]:
        """What carries the token on the nodes that still answer."""
        self.head.check()
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
            self.groups.drop(Group(request["group"], "", []))
        return {"known": gang is not None}

    def done(self, request: dict[str, Any]) -> dict[str, Any]:
        """The gang was judged: its group serves the next one."""
        gang = self.gangs.pop(request["token"], None)
        if gang is not None:
            for keeper in gang.group.keepers:
                keeper.forget.remote(gang.token)
            gang.group.token = None
            if not gang.group.shape:
                self.groups.drop(gang.group)  # adopted: its shape is not known here
        return {}

    # -- the cluster

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
        return {"done": self.groups.avoid(request["names"], request["needed"])}

    def room(self, request: dict[str, Any]) -> dict[str, Any]:
        """How many gangs of a shape the nodes that are not set aside hold at once."""
        return {"room": self.groups.room(request["bundle"], request["nodes"])}

    # -- inside

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
        self.groups.adopt(group)
        gang = self.gangs[token] = Gang(token, Path(request["trial_dir"]), group, told=told)
        self.homes[token] = gang.homes
        return gang

    def _progress(self, gang: Gang) -> dict[str, Any]:
        if gang.starting and not self._has_started(gang):
            self._ask_why(gang)
            told = {"state": "pending", "detail": gang.why, "hopeless": gang.hopeless}
            return {**told, "nodes": [], "group": gang.group.name}
        gang.look()
        state = "running" if gang.alive else "gone"
        return {"state": state, "detail": "", "nodes": gang.hosts, "group": gang.group.name}

    def _has_started(self, gang: Gang) -> bool:
        """Whether it has; a group that has come free meanwhile takes over one that waits."""
        if gang.take_starts():
            self.homes[gang.token] = gang.homes
            return True
        idle = None if gang.keepers_are_up else self.groups.idle(gang.group.shape)
        if idle is not None:
            self.groups.drop(gang.group)
            gang.start(idle)
        return False

    def _ask_why(self, gang: Gang) -> None:
        """What it waits for; empty once it has its nodes and the keepers come up."""
        if gang.hopeless:
            return
        now = time.monotonic()
        if now - gang.asked_why_at >= ASK_PERIOD_S:
            gang.asked_why_at = now
            gang.why, gang.hopeless = self.groups.why_pending(gang.group)
        bound = self.options["wait_s"]
        if gang.why and bound is not None and now - gang.submitted_at > bound:
            gang.why, gang.hopeless = f"waited {bound:.0f} s in vain: {gang.why}", True

    def _drop(self, gang: Gang) -> None:
        self.groups.drop(gang.group)
        del self.gangs[gang.token]

    def _sweep(self, token: str, kill: bool) -> list[str]:
        return sweep(self.homes.get(token, set()), token, kill)


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
        driver.groups.drop_idle()


if __name__ == "__main__":
    main()
