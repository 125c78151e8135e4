"""Groups of reserved Ray nodes: a placement group and its keepers, kept for the next gang."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autotune.launchers import _ray_keeper
from autotune.launchers._ray_cluster import living, named, why_pending
from autotune.launchers._room import gangs_that_fit, slots

NAMESPACE = "autotune"


@dataclass
class Group:
    """Reserved nodes: the keepers by part, and which gang they serve now."""

    name: str
    shape: str
    keepers: list[Any]
    placement: Any = None
    token: str | None = None
    started: bool = False


class Groups:
    """One controller's groups, and the nodes on which no new one may stand."""

    def __init__(self, idle_s: float) -> None:
        import ray

        self._idle_s = idle_s
        self._keeper_class = ray.remote(_ray_keeper.Keeper)
        self._by_name: dict[str, Group] = {}
        self._aside: set[str] = set()

    def take(self, bundle: dict[str, float], nodes: int, parts: int) -> Group:
        """An idle group of this shape, or a new one that waits for its nodes."""
        shape = json.dumps([bundle, nodes, parts])
        return self.idle(shape) or self._new(shape, bundle, nodes, parts)

    def idle(self, shape: str) -> Group | None:
        """A group of this shape that serves no gang."""
        return next((g for g in self._serving_none() if g.shape == shape), None)

    def adopt(self, group: Group) -> None:
        """Take over a group of an earlier controller."""
        self._by_name[group.name] = group

    def drop(self, group: Group) -> None:
        """Give a group's nodes back."""
        import ray

        self._by_name.pop(group.name, None)
        with contextlib.suppress(ValueError, ray.exceptions.RayError):
            placement = group.placement or ray.util.get_placement_group(group.name)
            ray.util.remove_placement_group(placement)

    def drop_idle(self) -> None:
        """Give back what is reserved and serves no gang."""
        for group in self._serving_none():
            self.drop(group)

    def why_pending(self, group: Group) -> tuple[str, bool]:
        """What a group waits for (empty once it stands), and whether that can never come."""
        import ray

        if ray.util.placement_group_table(group.placement)["state"] == "CREATED":
            return "", False
        bundle, nodes, _ = json.loads(group.shape)
        return why_pending(bundle, nodes, self._aside)

    def avoid(self, names: Sequence[str], needed: int) -> bool:
        """Set nodes aside by id, address or host; False when too few would remain."""
        alive = living()
        hit = named(alive, names)
        left = {node["NodeID"] for node in alive if len(node["Resources"]) > 2} - hit - self._aside
        if not hit or len(left) < max(1, needed):
            return False
        self._aside |= hit
        self.drop_idle()  # some may stand on one of them
        return True

    def room(self, bundle: dict[str, float], nodes: int) -> int:
        """How many gangs of a shape the nodes that are not set aside hold at once."""
        usable = [node for node in living() if node["NodeID"] not in self._aside]
        return gangs_that_fit([slots(node["Resources"], bundle) for node in usable], nodes)

    def _serving_none(self) -> list[Group]:
        return [group for group in self._by_name.values() if not group.token]

    def _new(self, shape: str, bundle: dict[str, float], nodes: int, parts: int) -> Group:
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.drop_idle()  # of other shapes: in the way of this one
        name = f"autotune-{uuid.uuid4().hex[:12]}"
        avoided: dict[str, Any] = {}
        if self._aside:
            avoid = f"!in({','.join(sorted(self._aside))})"
            avoided["bundle_label_selector"] = [{"ray.io/node-id": avoid}] * nodes
        strategy = "STRICT_SPREAD" if nodes > 1 else "STRICT_PACK"
        placement = placement_group(
            [bundle] * nodes, strategy=strategy, name=name, lifetime="detached", **avoided
        )
        keepers = [
            self._keeper_class.options(
                name=f"{name}:{index}",
                namespace=NAMESPACE,
                lifetime="detached",
                max_concurrency=8,
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(placement, index),
            ).remote(placement.id.hex(), self._idle_s)
            for index in range(parts)
        ]
        group = self._by_name[name] = Group(name, shape, keepers, placement)
        return group
