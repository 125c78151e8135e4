"""Where a part of a gang stands: its ranks, the rendezvous, and what each process is told of it.

One of the files that run on nodes beside ``supervisor.py``: see ``host.py``.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from autotune.launchers.host import (
        addresses,
        allowed_environment,
        free_port,
        own_address,
        read_object,
        short_name,
        write_whole,
    )
else:
    from host import (
        addresses,
        allowed_environment,
        free_port,
        own_address,
        read_object,
        short_name,
        write_whole,
    )
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RENDEZVOUS_BOUND_S = 120.0


class Place:
    """Part ``index`` of the gang that ``spec`` (gang.json) describes, in the trial's folder."""

    def __init__(self, spec: dict[str, Any], folder: str, index: int) -> None:
        self.spec = spec
        self.folder = folder
        self.index = index
        self.local_size = max(1, int(spec["gpus_per_node"]))

    def node(self) -> str:
        """This node as the launcher's list of hosts calls it, so that it can be left out of it."""
        own = os.uname().nodename
        here = {short_name(own), *addresses()}
        return next((str(name) for name in self.spec["hosts"] if short_name(name) in here), own)

    def ranks(self) -> list[tuple[int, int]]:
        """(rank, local rank) of what this part starts."""
        if self.spec["per"] != "rank":
            return [(self.index, 0)]
        if self.spec["unit"] == "rank":
            told = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", self.index % self.local_size)
            return [(self.index, int(told))]
        first = self.index * self.local_size
        return [(first + local, local) for local in range(self.local_size)]

    def rendezvous(self, given_up: Callable[[], bool]) -> tuple[str, int]:
        """MASTER_ADDR and MASTER_PORT: as told, else as part 0 chose them on its own node.

        OSError when part 0 tells nothing in time, or when the waiting was given up.
        """
        if self.spec["master_addr"]:
            return str(self.spec["master_addr"]), int(self.spec["master_port"])
        path = os.path.join(self.folder, "rendezvous.json")
        if self.index == 0:
            chosen = {"addr": own_address(), "port": free_port(), "token": self.spec["token"]}
            write_whole(path, chosen)
            return str(chosen["addr"]), int(str(chosen["port"]))
        bound = time.monotonic() + RENDEZVOUS_BOUND_S
        while time.monotonic() < bound and not given_up():
            told = read_object(path)
            if told and told.get("token") == self.spec["token"]:
                return str(told["addr"]), int(told["port"])
            time.sleep(0.05)
        raise OSError(f"part 0 told no rendezvous in {path} (waited {RENDEZVOUS_BOUND_S:.0f} s)")

    def environment(self, rank: int, local_rank: int, address: str, port: int) -> dict[str, str]:
        """What one started process sees: allowed variables, the job's own, and its place."""
        spec = self.spec
        node = rank // self.local_size if spec["per"] == "rank" else self.index
        env = allowed_environment(set(spec["inherit"]))
        env.setdefault("PYTHONUNBUFFERED", "1")
        env.update(spec["env"])
        if spec["path_prefix"]:
            env["PATH"] = spec["path_prefix"] + os.pathsep + env.get("PATH", os.defpath)
        place = {"MASTER_ADDR": address, "MASTER_PORT": port}
        place.update({"PET_MASTER_ADDR": address, "PET_MASTER_PORT": port})
        if spec["per"] != "job":
            place.update({"NODE_RANK": node, "NNODES": spec["nodes"]})
        if spec["per"] == "node":
            place.update({"PET_NODE_RANK": node, "PET_NNODES": spec["nodes"]})
            place.update({"PET_NPROC_PER_NODE": self.local_size, "PET_MAX_RESTARTS": 0})
        if spec["per"] == "rank":
            place.update({"RANK": rank, "LOCAL_RANK": local_rank, "GROUP_RANK": node})
            place.update({"WORLD_SIZE": int(spec["nodes"]) * self.local_size})
            place.update({"LOCAL_WORLD_SIZE": self.local_size})
        if spec["gpus"]:
            place["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in spec["gpus"])
        env.update({name: str(value) for name, value in place.items()})
        env["AUTOTUNE_TOKEN"] = spec["token"]
        env["AUTOTUNE_PART"] = f"{spec['token']}:{self.index}"
        env["AUTOTUNE_TRIAL_DIR"] = self.folder
        return env

    def argv(self, rank: int) -> list[str]:
        """The command of one rank, behind the container's where there is one."""
        prefix = [str(word).replace("{rank}", str(rank)) for word in self.spec["argv_prefix"]]
        return [*prefix, *self.spec["argv"]]

    def visible_gpus(self) -> list[str]:
        """Indices or UUIDs of the GPUs this part was given; empty where nothing tells."""
        if not int(self.spec["gpus_per_node"]):
            return []
        told = self.spec["env"].get("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
        return [str(gpu) for gpu in self.spec["gpus"]] or (told or "").split(",")


def part_index(word: str) -> int:
    """Which part of the gang this is: a number, or ``env`` for what mpirun or srun tell."""
    if word != "env":
        return int(word)
    for name in ("OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "PMIX_RANK", "PMI_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    raise SystemExit("supervisor: INDEX is env, but neither mpirun nor srun started this process")
