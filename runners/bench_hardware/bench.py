"""Measures one machine for the cost model: matmuls, memory, attention, links; prints JSON.

Runs in the training environment (torch; CUDA, ROCm or CPU), on its own or under torchrun: with
more than one rank it also measures collectives. Rank 0 prints one JSON object on stdout.

    python bench.py [--seconds 60]
    torchrun --nproc_per_node=8 bench.py

Every figure is the best of several timed repeats after a warm-up, in the unit its key names.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F

MATMUL_SHAPES = [
    (tokens, k, n)
    for tokens in (512, 2048, 4096, 8192, 16384)
    for k, n in (
        (1024, 1024), (1024, 4096), (2048, 2048), (2048, 16384), (4096, 4096), (4096, 1024),
        (4096, 28672), (14336, 4096), (512, 4096), (8192, 8192), (2048, 131072),
    )
]  # fmt: skip
SMALL_SHAPES = [(n, n, n) for n in (64, 128, 256, 512)]
COLLECTIVE_BYTES = [1 << 10, 1 << 14, 1 << 18, 1 << 22, 1 << 26]


class Clock:
    """Times a function on one device; knows how to wait for it."""

    def __init__(self, device: torch.device, deadline_s: float) -> None:
        self.device = device
        self.deadline = time.monotonic() + deadline_s

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], target_s: float = 0.03) -> float:
        """Seconds of one call: the best of four batches, each about ``target_s`` long."""
        work()
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        once = max(time.perf_counter() - start, 1e-6)
        count = max(1, min(200, int(target_s / once)))
        best = float("inf")
        for _ in range(4):
            start = time.perf_counter()
            for _ in range(count):
                work()
            self.wait()
            best = min(best, (time.perf_counter() - start) / count)
        return best

    @property
    def over(self) -> bool:
        return time.monotonic() > self.deadline


def measure_matmuls(clock: Clock) -> list[dict[str, object]]:
    """TFLOP/s by precision and shape (m, k, n)."""
    cuda = clock.device.type == "cuda"
    rows: list[dict[str, object]] = []
    kinds = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if cuda:
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32}
    for name, dtype in kinds.items():
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        shapes = MATMUL_SHAPES if cuda and name == "bf16" else MATMUL_SHAPES[4::11]
        for m, k, n in shapes if cuda else SMALL_SHAPES:
            if clock.over:
                return rows
            a = torch.randn(m, k, device=clock.device, dtype=dtype)
            b = torch.randn(k, n, device=clock.device, dtype=dtype)
            seconds = clock.seconds(lambda a=a, b=b: torch.mm(a, b))
            rows.append(
                {"precision": name, "shape": [m, k, n], "tflops": 2e-12 * m * k * n / seconds}
            )
    return rows


def measure_fp8(clock: Clock) -> list[dict[str, object]]:
    """TFLOP/s of scaled fp8 matmuls where the device has them; empty where it has not."""
    if clock.device.type != "cuda" or torch.cuda.get_device_capability() < (8, 9):
        return []
    rows: list[dict[str, object]] = []
    one = torch.ones((), device=clock.device)
    for m, k, n in ((4096, 4096, 4096), (8192, 4096, 28672), (8192, 8192, 8192)):
        a = torch.randn(m, k, device=clock.device).to(torch.float8_e4m3fn)
        b = torch.randn(n, k, device=clock.device).to(torch.float8_e4m3fn).t()
        seconds = clock.seconds(
            lambda a=a, b=b: torch._scaled_mm(a, b, one, one, out_dtype=torch.bfloat16)
        )
        rows.append({"precision": "fp8", "shape": [m, k, n], "tflops": 2e-12 * m * k * n / seconds})
    return rows


def measure_memory(clock: Clock) -> dict[str, float]:
    """Copy bandwidth on the device (1e9 bytes/s, read plus write) and launch time (us)."""
    size = 1 << 28 if clock.device.type == "cuda" else 1 << 24
    source = torch.ones(size, device=clock.device, dtype=torch.float32)
    target = torch.empty_like(source)
    seconds = clock.seconds(lambda: target.copy_(source))
    tiny = torch.ones(16, device=clock.device)
    launch = clock.seconds(lambda: tiny.add_(1.0), target_s=0.002)
    return {"copy_gb_per_s": 8e-9 * size / seconds, "launch_us": 1e6 * launch}


def measure_attention(clock: Clock) -> list[dict[str, object]]:
    """TFLOP/s of causal attention, forward and backward, counted as half of full attention."""
    cuda = clock.device.type == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    cases = ((1, 32, 4096, 128), (2, 32, 2048, 128), (1, 32, 4096, 64), (1, 32, 8192, 128))
    rows: list[dict[str, object]] = []
    for batch, heads, seq, dim in cases if cuda else ((1, 4, 256, 32),):
        if clock.over:
            break
        q, k, v = (
            torch.randn(batch, heads, seq, dim, device=clock.device, dtype=dtype).requires_grad_()
            for _ in range(3)
        )
        flops = 2e-12 * batch * heads * seq * seq * dim
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        grad = torch.randn_like(out)
        forward = clock.seconds(
            lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v, is_causal=True)
        )
        backward = clock.seconds(lambda out=out, grad=grad: out.backward(grad, retain_graph=True))
        rows.append(
            {
                "shape": [batch, heads, seq, dim],
                "forward_tflops": flops / forward,
                "backward_tflops": 2.5 * flops / backward,
            }
        )
    return rows


def measure_host_link(clock: Clock) -> dict[str, float]:
    """Pinned copies between host and device, 1e9 bytes/s each way; empty on a CPU."""
    if clock.device.type != "cuda":
        return {}
    size = 1 << 28
    host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    device = torch.empty(size, dtype=torch.uint8, device=clock.device)
    down = clock.seconds(lambda: device.copy_(host, non_blocking=True))
    up = clock.seconds(lambda: host.copy_(device, non_blocking=True))
    return {
        "host_to_device_gb_per_s": 1e-9 * size / down,
        "device_to_host_gb_per_s": 1e-9 * size / up,
    }


def measure_collectives(clock: Clock) -> list[dict[str, float]]:
    """All-reduce seconds by size; bus bandwidth as NCCL's tests count it."""
    world = dist.get_world_size()
    rows: list[dict[str, float]] = []
    for size in COLLECTIVE_BYTES:
        buffer = torch.ones(size // 4, device=clock.device)
        dist.barrier()
        seconds = float("inf")
        for _ in range(5):
            clock.wait()
            start = time.perf_counter()
            for _ in range(5):
                dist.all_reduce(buffer)
            clock.wait()
            seconds = min(seconds, (time.perf_counter() - start) / 5)
        bus = 1e-9 * size * 2 * (world - 1) / world / seconds
        rows.append({"bytes": size, "seconds": seconds, "bus_gb_per_s": bus})
    return rows


def describe(device: torch.device) -> dict[str, object]:
    """Name, memory (GiB) and multiprocessors of the device; the host's memory for a CPU."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {
            "device": properties.name,
            "vendor": "amd" if torch.version.hip else "nvidia",
            "memory_gib": properties.total_memory / 2**30,
            "sms": properties.multi_processor_count,
        }
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "device": "cpu",
        "vendor": "cpu",
        "memory_gib": host,
        "threads": torch.get_num_threads(),
    }


def main() -> int:
    """Measure and print; exit status 0, or torch's own error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="time for the matmuls")
    options = parser.parse_args()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    device = (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if cuda
        else torch.device("cpu")
    )
    if cuda:
        torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=300))
    clock = Clock(device, options.seconds)
    result: dict[str, object] = {
        "torch": torch.__version__,
        "world_size": world,
        "gpus_per_node": int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        "host_memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        **describe(device),
        "memory": measure_memory(clock),
        "host_link": measure_host_link(clock),
        "attention": measure_attention(clock),
        "matmul": measure_matmuls(clock) + measure_fp8(clock),
        "collectives": measure_collectives(clock) if world > 1 else [],
    }
    if rank == 0:
        print(json.dumps(result), flush=True)
    if world > 1:
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
