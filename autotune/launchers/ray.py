"""Gangs on a Ray cluster: a placement group a gang, a keeper on each of its nodes.

    submit: gang.json -> driver (child of this process) -> keepers (detached actors)
            -> supervisors (the nodes) -> ranks
    poll:   every part's exit record stands and no supervisor is left -> exited

Groups are kept for the next trial of the same shape and give themselves back when nobody asks
any more. A gang whose node went is lost: infrastructure, and not the config's fault.

Options besides those of every launcher (``_gang.GangOptions``):
    address       the cluster (default: RAY_ADDRESS, else `autotune cluster up`'s, else this host's)
    gpu_resource  whether to ask for GPUs (default: true; false on a cluster without any)
    cpus          CPUs reserved a node (default: 1)
    resources     more of Ray's resources a node, such as {"accelerator_type:H100": 0.001}
    shared        whether nodes see the study's folder (default: found out); if not, files are
                  sent to the nodes, and logs and records fetched
    wait_s        how long a gang may wait for resources (default: without bound)
    idle_s        seconds after which nodes that nobody asks for are given back (default: 120)
    head_grace_s  seconds that the head may be away, to be restarted (default: 15)
``python`` defaults to that of the node's Ray, ``node_python`` too.
"""

from __future__ import annotations

import dataclasses
import os
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autotune.errors import BadInput
from autotune.launchers import _gang, _records, host, members, supervisor
from autotune.launchers._process import describe_process
from autotune.launchers._ray_bridge import Bridge
from autotune.launchers._ray_local import has_invented_gpus, local_cluster
from autotune.trial import GangStatus, Handle, Job

KNOWN = (
    "address", "gpu_resource", "cpus", "resources", "shared", "wait_s", "idle_s", "head_grace_s",
)  # fmt: skip
ESCALATION_MARGIN_S = 10.0
RECORD_LINGER_S = 10.0
TOLD = "ray.json"


class Ray:
    """The launcher ``ray``."""

    name = "ray"

    def __init__(self, options: dict[str, Any]) -> None:
        options.setdefault("node_python", "")
        self.options = _gang.GangOptions.take(options, self.name)
        address = options.pop("address", None) or os.environ.get("RAY_ADDRESS")
        self.asks_for_gpus = _flag(options.pop("gpu_resource", True), "ray.gpu_resource")
        self.cpus = _gang.seconds(options.pop("cpus", 1), "ray.cpus")
        self.resources = _amounts(options.pop("resources", {}))
        shared = options.pop("shared", None)
        self.shared = None if shared is None else _flag(shared, "ray.shared")
        wait_s = options.pop("wait_s", None)
        settings = {
            "wait_s": None if wait_s is None else _gang.seconds(wait_s, "ray.wait_s"),
            "idle_s": _gang.seconds(options.pop("idle_s", 120.0), "ray.idle_s"),
            "head_grace_s": _gang.seconds(options.pop("head_grace_s", 15.0), "ray.head_grace_s"),
        }
        _gang.refuse_unknown(options, KNOWN, self.name)
        self._invented = not address and has_invented_gpus()
        address, env = (address, {}) if address else local_cluster()
        self._bridge = Bridge({"address": address, **settings}, env)
        self._clock = _gang.CancelClock(ESCALATION_MARGIN_S)
        self._over: dict[str, GangStatus] = {}
        self._gone: dict[str, float] = {}
        weakref.finalize(self, self._bridge.close)

    def submit(self, job: Job, trial_dir: Path, token: str) -> Handle:
        """Ask for the nodes and return the handle; see ``Launcher.submit``."""
        parts = 1 if job.per == "job" else job.nodes
        before = set(os.environ)
        env = _gang.prepare(job, trial_dir, token, self.options, _gang.GangPlan(parts))
        own = set(self.options.pass_env) | set(job.env) | {"AUTOTUNE_TOKEN"}
        env = {name: value for name, value in env.items() if name in own or name not in before}
        gpus = job.gpus_per_node if self.asks_for_gpus else 0
        order = {
            "token": token,
            "trial_dir": str(trial_dir.absolute()),
            "spec": _records.told_spec(trial_dir),
            "files": dict(job.files),
            "scripts": _scripts(),
            "env": env,
            "gpus": gpus,
            "shared": self.shared,
            "node_python": self.options.node_python,
        }
        asked = self._bridge.ask(
            "submit",
            token=token,
            trial_dir=order["trial_dir"],
            bundle=self._bundle(job),
            nodes=job.nodes,
            parts=parts,
            orders=[{**order, "index": index} for index in range(parts)],
        )
        handle = {
            "launcher": self.name,
            "token": token,
            "trial_dir": order["trial_dir"],
            "parts": parts,
            "started_at": time.time(),
        }
        self._note_group(handle, asked["group"])
        return handle

    def poll(self, handle: Handle) -> GangStatus:
        """The gang's status; see ``Launcher.poll``."""
        token, trial_dir = handle["token"], Path(handle["trial_dir"])
        if token in self._over:
            return self._over[token]
        told = self._bridge.ask("poll", **self._request(handle))
        if told["state"] in ("pending", "running"):
            self._note_group(handle, told["group"])
            return GangStatus(
                told["state"],
                detail=told["detail"],
                nodes=tuple(told["nodes"]),
                hopeless=told.get("hopeless", False),
            )
        records = _records.read_exits(trial_dir, token)
        if records is None and told["state"] == "gone":
            since = self._gone.setdefault(token, time.monotonic())
            if time.monotonic() - since < RECORD_LINGER_S:
                return GangStatus("running", detail="waiting for exit records")
        unfit = told.get("unfit", {})
        if records is not None:
            status = _records.status_of(records)
            status = dataclasses.replace(status, unfit={**status.unfit, **unfit})
            if status.state == "lost" and told["detail"]:
                status = dataclasses.replace(status, detail=told["detail"])
        else:
            detail = told["detail"] or "its supervisors vanished without exit records"
            status = GangStatus("lost", detail=detail, nodes=tuple(told["nodes"]), unfit=unfit)
        self._bridge.ask("done", token=token)
        self._over[token] = status
        return status

    def cancel(self, handle: Handle, grace_s: float, dump_stacks: bool = False) -> None:
        """Ask the gang to end, then kill it on its nodes; see ``Launcher.cancel``."""
        token = handle["token"]
        self._clock.asked_before(token)
        kill = self._clock.overdue(token, grace_s, dump_stacks)
        request = {"grace_s": grace_s, "dump": dump_stacks}
        told = self._bridge.ask("cancel", **self._request(handle), request=request, kill=kill)
        _gang.request_cancel(Path(handle["trial_dir"]), grace_s, dump_stacks)
        if told["withdrawn"]:
            detail = "cancelled before it started"
            self._over[token] = GangStatus("exited", cancelled=True, detail=detail)

    def survivors(self, handle: Handle) -> list[str]:
        """What carries the token on the gang's nodes and on this host."""
        left = self._bridge.ask("survivors", token=handle["token"])["left"]
        here = members.carriers(handle["token"])
        return [*left, *(describe_process(pid) for pid, _ in here if pid != os.getpid())]

    def find(self, trial_dir: Path, token: str) -> Handle | None:
        """The gang whose keepers know the token, or what its records say."""
        told = host.read_object(str(trial_dir / TOLD))
        if told is None or told.get("token") != token:
            return None
        handle = {
            "launcher": self.name,
            "token": token,
            "trial_dir": str(trial_dir.absolute()),
            "parts": int(told["parts"]),
            "started_at": time.time(),
        }
        known = self._bridge.ask("find", **self._request(handle))["known"]
        return handle if known or _records.told_start(trial_dir, token) else None

    def without_gpus(self) -> bool:
        """Whether none is asked for, or all are invented; see ``launchers.Launcher``."""
        return not self.asks_for_gpus or self._invented

    def avoid(self, names: Sequence[str], needed: int) -> bool:
        """Leave Ray's nodes out by id, address or host; see ``launchers.Launcher``."""
        return bool(self._bridge.ask("avoid", names=list(names), needed=needed)["done"])

    def room(self, job: Job) -> int:
        """Gangs that the cluster's nodes, but for those set aside, hold at once."""
        return int(self._bridge.ask("room", bundle=self._bundle(job), nodes=job.nodes)["room"])

    def _bundle(self, job: Job) -> dict[str, float]:
        """What a gang asks of each of its nodes."""
        gpus = {"GPU": float(job.gpus_per_node)} if job.gpus_per_node and self.asks_for_gpus else {}
        return {"CPU": self.cpus, **self.resources, **gpus}

    def _request(self, handle: Handle) -> dict[str, Any]:
        told = host.read_object(str(Path(handle["trial_dir"]) / TOLD)) or {}
        group = told.get("group") if told.get("token") == handle["token"] else None
        names = ("token", "trial_dir", "parts")
        return {**{name: handle.get(name) for name in names}, "group": group}

    def _note_group(self, handle: Handle, group: str) -> None:
        """Keep the group's name beside the gang: it may change while the gang is pending."""
        path = Path(handle["trial_dir"]) / TOLD
        told = {"token": handle["token"], "parts": handle["parts"], "group": group}
        if host.read_object(str(path)) != told:
            host.write_whole(str(path), told, durable=False)


def _scripts() -> dict[str, str]:
    """The supervisor's files, which nodes need not have."""
    folder = _gang.SUPERVISOR.parent
    return {name: (folder / name).read_text() for name in supervisor.NODE_FILES}


def _flag(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    raise BadInput(f"{where}: expected true or false, got {value!r}")


def _amounts(value: Any) -> dict[str, float]:
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {
            name: _gang.seconds(amount, f"ray.resources.{name}") for name, amount in value.items()
        }
    raise BadInput(f"ray.resources: expected names and amounts, got {value!r}")


LAUNCHER = Ray
