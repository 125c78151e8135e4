"""One trial on a Ray group, as far as the keepers on its nodes have told.

Keepers are asked and not waited for: each call takes what is there by now. Where nodes do not
see the trial's folder, what a keeper sends is mirrored into it, and a part's end passed on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotune.launchers import _ray_keeper
from autotune.launchers._ray_cluster import is_lost, name_of
from autotune.launchers._ray_groups import Group

LOOK_PERIOD_S = 0.2
NODE_END_BOUND_S = 3.0


class Lost(Exception):
    """A gang whose node or keeper is gone; ``unfit`` names the node that is to blame."""

    def __init__(self, why: str, unfit: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.unfit = dict(unfit or {})


@dataclass
class Gang:
    """One trial on a group; ``told`` has each part's last answer."""

    token: str
    trial_dir: Path
    group: Group
    orders: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    why: str = ""
    hopeless: bool = False
    asked_why_at: float = 0.0
    submitted_at: float = field(default_factory=time.monotonic)
    _starting: list[Any] = field(default_factory=list)
    _looks: list[Any] = field(default_factory=list)
    _looked_at: list[float] = field(default_factory=list)
    _passed_on: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        parts = len(self.group.keepers)
        self.told = self.told or [{} for _ in range(parts)]
        self._looks = [None] * parts
        self._looked_at = [0.0] * parts

    # -- starting

    def start(self, group: Group) -> None:
        """Have a group's keepers start the parts once they are up."""
        self.group = group
        group.token = self.token
        self._starting = [
            keeper.start.remote(order, group.keepers[0] if order["index"] else None)
            for keeper, order in zip(group.keepers, self.orders, strict=True)
        ]

    @property
    def starting(self) -> bool:
        """Whether not all parts are known to have started."""
        return bool(self._starting)

    @property
    def keepers_are_up(self) -> bool:
        """Whether a keeper of it has answered, or served an earlier gang."""
        import ray

        return self.group.started or bool(ray.wait(self._starting, timeout=0)[0])

    def take_starts(self) -> bool:
        """Take the answers that are there; whether all parts have started now. Raises Lost."""
        import ray

        count = len(self._starting)
        done, waiting = ray.wait(self._starting, num_returns=count, timeout=0)
        for ref in done:
            self._answer(self._starting.index(ref), ref)
        if waiting:
            return False
        self.told = [self._answer(index, ref) for index, ref in enumerate(self._starting)]
        self._starting = []
        self.group.started = True
        return True

    # -- running

    @property
    def homes(self) -> set[str]:
        """Ids of the nodes it runs on."""
        return {told["node_id"] for told in self.told if "node_id" in told}

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts it runs on, by part."""
        return [told["host"] for told in self.told if "host" in told]

    @property
    def alive(self) -> bool:
        """Whether a supervisor of it may run."""
        return any(told.get("alive", True) for told in self.told)

    def look(self) -> None:
        """Ask each keeper whose turn it is, take what has been answered. Raises Lost."""
        now = time.monotonic()
        for index in range(len(self._looks)):
            self._look_at(index, now)
        self._pass_on()

    def _look_at(self, index: int, now: float) -> None:
        import ray

        asked = self._looks[index]
        if asked is None and now - self._looked_at[index] >= LOOK_PERIOD_S:
            offsets = {} if self.told[index].get("shared") else self._offsets()
            self._looked_at[index] = now
            asked = self.group.keepers[index].look.remote(self.token, offsets)
            self._looks[index] = asked
        if asked is None or not ray.wait([asked], timeout=0)[0]:
            return
        self._looks[index] = None
        answer = self._answer(index, asked)
        if not answer["known"]:
            raise Lost(f"the keeper on {answer['host']} knows nothing of it")
        shared = self.told[index].get("shared", answer["names"] is None)
        self._mirror(answer)
        behind = bool(answer["files"])
        self.told[index] = {**answer, "shared": shared, "files": None}
        self.told[index]["alive"] = answer["alive"] or behind
        if behind:
            self._looked_at[index] = 0.0

    def _answer(self, index: int, ref: Any) -> dict[str, Any]:
        """What a keeper answered; Lost when it is gone or could not start its part."""
        import ray

        try:
            found: dict[str, Any] = ray.get(ref)
            return found
        except ray.exceptions.RayTaskError as error:
            raise Lost(f"part {index} could not be started: {error.cause or error}") from error
        except ray.exceptions.RayError as error:
            raise self._lost(index, error) from error

    def _lost(self, index: int, error: Exception) -> Lost:
        told = self.told[index]
        if "node_id" not in told:
            return Lost(f"part {index}: its keeper never came up ({type(error).__name__})")
        where = f"Ray node {told['host']} ({told['address']})"
        bound = time.monotonic() + NODE_END_BOUND_S  # a node's actors may die before it does
        while time.monotonic() < bound:
            if is_lost(told["node_id"]):
                return Lost(f"{where} was lost")
            time.sleep(0.2)
        why = f"the keeper on {where} died"
        return Lost(why, {name_of(told["node_id"]): why})

    # -- folders that are not shared

    def _offsets(self) -> dict[str, int]:
        root = self.trial_dir
        paths = [*root.glob("*.json"), *root.glob("*.log"), *root.glob("logs/*")]
        return {str(path.relative_to(root)): path.stat().st_size for path in paths}

    def _mirror(self, answer: Mapping[str, Any]) -> None:
        """Write what a keeper sent to the controller's side."""
        for name, offset, data in answer["files"]:
            path = self.trial_dir / name
            if name.endswith(".json"):
                _ray_keeper.write_bytes(path, data)
                continue
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.seek(offset)
                file.write(data)

    def _pass_on(self) -> None:
        """Tell every node of a part that ended, where they do not share the folder."""
        keepers = self.group.keepers
        if len(keepers) < 2 or all(told.get("shared") for told in self.told):
            return
        for path in self.trial_dir.glob("exit.*.json"):
            if path.name not in self._passed_on:
                self._passed_on.add(path.name)
                for keeper in keepers:
                    keeper.put.remote(self.token, path.name, path.read_bytes())
