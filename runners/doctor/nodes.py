"""One process of a check of a gang's nodes: is any of them slower than the others?

Started like a trial's own processes (one a node, or one a GPU) with check.py beside it. Each
prints one JSON object: what its devices do in a matrix product (TFLOP/s), what an all-reduce over
the whole gang takes (GB/s, the ring's bus bandwidth), and what its node exchanges with its
neighbours, two by two, so that a slow link has a name (GB/s each way). Each figure is a list, one
entry a round, so that what is slow only at times is seen. Without PyTorch it says so.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from check import fastest_s

ROUNDS = 12
ROUND_S = 0.1
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


def seconds_by_round(
    torch: Any, device: str, work: Callable[[], Any], runs: int = 1
) -> list[float]:
    """Seconds that `work` takes in each round, in the mean over the runs of one."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    found = []
    for _ in range(ROUNDS):
        wait()
        started = time.perf_counter()
        for _ in range(runs):
            work()
        wait()
        found.append((time.perf_counter() - started) / runs)
    return found


def product_rates(torch: Any, device: str, kind: str) -> list[float]:
    """TFLOP/s of matrix products by round; a round is as many as take a tenth of a second."""
    dtype = torch.bfloat16 if kind == "cuda" else torch.float32
    size = PRODUCT[kind]
    left = torch.randn(size, size, device=device, dtype=dtype)
    right = torch.randn(size, size, device=device, dtype=dtype)
    runs = math.ceil(ROUND_S / fastest_s(torch, device, lambda: left @ right))
    by_round = seconds_by_round(torch, device, lambda: left @ right, runs)
    return [round(2 * size**3 / seconds / 1e12, 4) for seconds in by_round]


def between_nodes(
    torch: Any, device: str, here: tuple[int, int, int | None, int]
) -> dict[str, Any]:
    """All-reduce over the gang and the better of the exchanges with each neighbour, by round."""
    distributed = torch.distributed
    rank, world, _, per_node = here
    kind = device.partition(":")[0]
    backend = "nccl" if kind == "cuda" else "gloo"
    distributed.init_process_group(backend, rank=rank, world_size=world, timeout=GANG_BOUND)
    size = MESSAGE_BYTES[kind]
    data = torch.ones(size // 4, device=device)
    distributed.all_reduce(data)
    by_round = seconds_by_round(torch, device, lambda: distributed.all_reduce(data))
    moved = 2 * (world - 1) / world * size / 1e9
    told: dict[str, Any] = {
        "all_reduce_gb_per_s": [moved / seconds for seconds in by_round],
        "exchange_gb_per_s": [],
    }
    if rank % per_node == 0 and world > per_node:
        into = torch.empty_like(data)
        rates = []
        for other in partners(rank // per_node, world // per_node):
            if other is not None:
                peer = other * per_node
                exchange(distributed, data, into, peer)
                by_round = seconds_by_round(
                    torch, device, lambda peer=peer: exchange(distributed, data, into, peer)
                )
                rates.append([size / seconds / 1e9 for seconds in by_round])
        told["exchange_gb_per_s"] = max(rates, key=statistics.median, default=[])
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
    try:
        found["kind"] = kind
        found["tflops"] = {name: product_rates(torch, name, kind) for name in names}
        if here[1] > 1:
            found |= between_nodes(torch, names[0], here)
    except (RuntimeError, ValueError) as error:
        found["error"] = str(error).splitlines()[0]
    return found


if __name__ == "__main__":
    print(json.dumps(report()), flush=True)
