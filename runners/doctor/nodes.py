"""One process of a check of a gang's nodes: is any of them slower than the others?

Started like a trial's own processes (one a node, or one a GPU) with check.py beside it. Each
prints one JSON object: what its devices do in a matrix product (TFLOP/s), what an all-reduce over
the whole gang takes (GB/s, the ring's bus bandwidth), and what its node exchanges with its
neighbours, two by two, so that a slow link has a name (GB/s each way). Without PyTorch it says so.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from check import fastest_s, matmul_tflops

PRODUCT = {"cuda": 8192, "cpu": 512}
MESSAGE_BYTES = {"cuda": 256 * 2**20, "cpu": 4 * 2**20}
GANG_BOUND = datetime.timedelta(seconds=60)


def place() -> tuple[int, int, int | None, int]:
    """Rank, world size, this node's GPU (None: all of them), processes a node."""
    if "RANK" in os.environ:
        local = int(os.environ["LOCAL_RANK"])
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), local, per_node
    return int(os.environ.get("NODE_RANK", "0")), int(os.environ.get("NNODES", "1")), None, 1


def partners(position: int, count: int) -> list[int | None]:
    """Whom a node exchanges with in two rounds: the neighbour on one side, then on the other."""
    first = position ^ 1
    second = position + 1 if position % 2 else position - 1
    if count % 2 == 0:
        second %= count
    return [other if 0 <= other < count else None for other in (first, second)]


def between_nodes(
    torch: Any, device: str, here: tuple[int, int, int | None, int]
) -> dict[str, Any]:
    """All-reduce over the gang and the better of the exchanges with each neighbour, GB/s."""
    distributed = torch.distributed
    rank, world, _, per_node = here
    kind = device.partition(":")[0]
    backend = "nccl" if kind == "cuda" else "gloo"
    distributed.init_process_group(backend, rank=rank, world_size=world, timeout=GANG_BOUND)
    size = MESSAGE_BYTES[kind]
    data = torch.ones(size // 4, device=device)
    seconds = fastest_s(torch, device, lambda: distributed.all_reduce(data))
    told: dict[str, Any] = {
        "all_reduce_gb_per_s": 2 * (world - 1) / world * size / seconds / 1e9,
        "exchange_gb_per_s": None,
    }
    if rank % per_node == 0 and world > per_node:
        into = torch.empty_like(data)
        rates = []
        for other in partners(rank // per_node, world // per_node):
            if other is not None:
                peer = other * per_node
                seconds = fastest_s(
                    torch, device, lambda peer=peer: exchange(distributed, data, into, peer)
                )
                rates.append(size / seconds / 1e9)
        told["exchange_gb_per_s"] = max(rates, default=None)
    distributed.barrier()
    distributed.destroy_process_group()
    return told


def exchange(distributed: Any, data: Any, into: Any, peer: int) -> None:
    """Send to a process and receive from it at once."""
    operations = [
        distributed.P2POp(distributed.isend, data, peer),
        distributed.P2POp(distributed.irecv, into, peer),
    ]
    for request in distributed.batch_isend_irecv(operations):
        request.wait()


def report() -> dict[str, Any]:
    """What this process measured."""
    here = place()
    found: dict[str, Any] = {"rank": here[0]}
    try:
        import torch
    except ImportError as error:
        return {**found, "error": f"PyTorch cannot be imported: {error}"}
    names = ["cpu"]
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        names = [f"cuda:{i}" for i in (range(count) if here[2] is None else [here[2] % count])]
        torch.cuda.set_device(names[0])
    kind = names[0].partition(":")[0]
    dtype = torch.bfloat16 if kind == "cuda" else torch.float32
    try:
        found["kind"] = kind
        found["tflops"] = {
            name: round(matmul_tflops(torch, name, dtype, PRODUCT[kind]), 4) for name in names
        }
        if here[1] > 1:
            found |= between_nodes(torch, names[0], here)
    except (RuntimeError, ValueError) as error:
        found["error"] = str(error).splitlines()[0]
    return found


if __name__ == "__main__":
    print(json.dumps(report()), flush=True)
