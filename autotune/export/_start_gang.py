"""Starts run.sh once on each node of a Ray cluster: python3 start_gang.py NODES GPUS_PER_NODE.

Every node runs it beside the others or none does (STRICT_SPREAD). The first script that fails
ends the job with its exit status; a RayJob then takes its cluster, and what is left on it, away.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

SCRIPT = str(Path(__file__).resolve().parent / "run.sh")


def address() -> str:
    """This node, as the others reach it."""
    util: Any = ray.util
    return str(util.get_node_ip_address())


def start(rank: int, nodes: int, master: str) -> int:
    """Run the script on this node; its exit status."""
    place = {"NODE_RANK": str(rank), "NNODES": str(nodes), "MASTER_ADDR": master}
    return subprocess.run(["bash", SCRIPT], env={**os.environ, **place}, check=False).returncode


def main(nodes: int, gpus: int) -> int:
    """Place the gang, start it, wait; 0 when every script ended with 0."""
    ray.init()
    group = placement_group([{"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1}] * nodes,
                            strategy="STRICT_SPREAD")  # fmt: skip
    ray.get(group.ready())

    def on(rank: int) -> dict[str, object]:
        where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
        return {"num_cpus": 1, "scheduling_strategy": where, "max_retries": 0}

    master = ray.get(ray.remote(address).options(**on(0)).remote())
    begin = ray.remote(start)
    running = [
        begin.options(num_gpus=gpus, **on(rank)).remote(rank, nodes, master)
        for rank in range(nodes)
    ]
    while running:
        ended, running = ray.wait(running)
        code = ray.get(ended[0])
        if code:
            return int(code) if code > 0 else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
