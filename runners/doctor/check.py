"""A sanity check of one machine, printed as one JSON object: `autotune doctor` runs it anywhere.

Only the standard library is needed; with PyTorch it also times a matrix product and a tiny
forward pass on every device, and copies between them. It changes nothing and needs no rights.

    python check.py [--quick]

Exit status 0: usable for training; 1: usable for nothing but planning (the JSON says why).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "transformers", "accelerate", "deepspeed", "megatron-core", "torchtitan",
    "nemo-toolkit", "transformer-engine", "flash-attn", "triton", "ray", "mpi4py", "numpy",
    "optuna", "autotune-llm",
)  # fmt: skip
PROGRAMS = ("nvidia-smi", "rocm-smi", "nsys", "nvcc", "gcc", "mpirun", "srun", "sbatch", "ray")
REPEATS = 3


def versions() -> dict[str, str]:
    """Installed training packages and their versions."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def host() -> dict[str, Any]:
    """The machine without its accelerators; memory and disk in GiB."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "name": socket.gethostname(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(pages / 2**30, 2),
        "memory_free_gib": _available_gib(),
        "memory_limit_gib": _cgroup_limit_gib(),
        "shm_free_gib": _free_gib("/dev/shm"),
        "tmp_free_gib": _free_gib("/tmp"),
        "open_files_limit": _open_files_limit(),
        "own_control_group": _own_control_group(),
    }


def _own_control_group() -> bool:
    """Whether autotune could put this very check, as it would a trial, in a group of its own."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("0::") and "/autotune-" in line for line in lines)


def _available_gib() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return round(int(kib) / 2**20, 2) if kib else None


def _cgroup_limit_gib() -> float | None:
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return None
    return round(int(text) / 2**30, 2) if text.isdigit() else None


def _free_gib(folder: str) -> float | None:
    try:
        return round(shutil.disk_usage(folder).free / 2**30, 2)
    except OSError:
        return None


def _open_files_limit() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def network() -> dict[str, Any]:
    """Network interfaces that are up with their speed in Mbit/s, and InfiniBand devices."""
    interfaces = {}
    for folder in sorted(Path("/sys/class/net").glob("*")):
        if _read(folder / "operstate") in ("up", "unknown"):
            speed = _read(folder / "speed")
            interfaces[folder.name] = int(speed) if speed.lstrip("-").isdigit() else None
    infiniband = {
        port.parent.parent.name: _read(port / "rate")
        for port in sorted(Path("/sys/class/infiniband").glob("*/ports/1"))
    }
    return {"interfaces_mbit_s": interfaces, "infiniband": infiniband}


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def gpu_topology() -> str | None:
    """`nvidia-smi topo -m`, which says how GPUs are linked; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        answer = subprocess.run(
            [program, "topo", "-m"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def torch_check(quick: bool) -> dict[str, Any]:
    """What PyTorch sees, and how fast each device is; `{"error": ...}` without PyTorch."""
    try:
        import torch
    except ImportError as error:
        return {"error": f"PyTorch cannot be imported: {error}"}
    cuda = torch.cuda.is_available()
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if cuda else ["cpu"]
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
        "threads": torch.get_num_threads(),
        "devices": [device_check(torch, name, quick) for name in names],
        "copies_gb_per_s": copy_rates(torch, names) if cuda and not quick else {},
    }


def device_check(torch: Any, name: str, quick: bool) -> dict[str, Any]:
    """One device: memory in GiB, matrix-product TFLOP/s by precision, a tiny forward pass in ms."""
    result: dict[str, Any] = {"device": name}
    try:
        if name.startswith("cuda"):
            properties = torch.cuda.get_device_properties(name)
            free, total = torch.cuda.mem_get_info(name)
            result |= {
                "name": properties.name,
                "capability": f"{properties.major}.{properties.minor}",
                "multiprocessors": properties.multi_processor_count,
                "memory_gib": round(total / 2**30, 2),
                "memory_free_gib": round(free / 2**30, 2),
            }
            size = 2048 if quick else 8192
        else:
            result["name"] = platform.processor() or platform.machine()
            size = 256 if quick else 768
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
        result["matmul_tflops"] = {
            label: round(matmul_tflops(torch, name, dtype, size), 4)
            for label, dtype in dtypes.items()
        }
        result["forward_ms"] = round(forward_ms(torch, name), 3)
    except RuntimeError as error:
        result["error"] = str(error).splitlines()[0]
    return result


def fastest_s(torch: Any, device: str, work: Callable[[], Any]) -> float:
    """Seconds of the fastest of a few runs of `work`, after one to warm up."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    times = []
    for _ in range(REPEATS + 1):
        wait()
        started = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def matmul_tflops(torch: Any, device: str, dtype: Any, size: int) -> float:
    """TFLOP/s of one size x size product (2 n^3 operations)."""
    left = torch.randn(size, size, device=device, dtype=dtype)
    right = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / fastest_s(torch, device, lambda: left @ right) / 1e12


def forward_ms(torch: Any, device: str) -> float:
    """Milliseconds of a forward pass through one small transformer layer."""
    layer = torch.nn.TransformerEncoderLayer(128, 4, 256, batch_first=True).to(device).eval()
    tokens = torch.randn(4, 64, 128, device=device)
    with torch.no_grad():
        output = layer(tokens)
        if not torch.isfinite(output).all():
            raise RuntimeError("a forward pass gave values that are not finite")
        return fastest_s(torch, device, lambda: layer(tokens)) * 1e3


def copy_rates(torch: Any, names: list[str]) -> dict[str, float]:
    """GB/s of a 256 MiB copy from the host to each GPU and from the first GPU to the others."""
    size = 256 * 2**20
    pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    rates = {}
    for name in names:
        target = torch.empty(size, dtype=torch.uint8, device=name)
        seconds = fastest_s(torch, name, lambda target=target: target.copy_(pinned))
        rates[f"host->{name}"] = round(size / seconds / 1e9, 2)
        if name != names[0]:
            source = torch.empty(size, dtype=torch.uint8, device=names[0])
            seconds = fastest_s(torch, name, lambda s=source, t=target: t.copy_(s))
            rates[f"{names[0]}->{name}"] = round(size / seconds / 1e9, 2)
    return rates


def problems(report: dict[str, Any]) -> list[str]:
    """What stands in the way of training here, one sentence each."""
    found = []
    torch_report = report["torch"]
    if "error" in torch_report:
        found.append(torch_report["error"])
    for device in torch_report.get("devices", []):
        if "error" in device:
            found.append(f"{device['device']}: {device['error']}")
        elif device.get("memory_free_gib", 1.0) < 0.5 * device.get("memory_gib", 1.0):
            found.append(
                f"{device['device']}: only {device['memory_free_gib']} of "
                f"{device['memory_gib']} GiB are free; another program holds the rest"
            )
    return found


def check(quick: bool) -> dict[str, Any]:
    """The whole report as plain data."""
    report: dict[str, Any] = {
        "host": host(),
        "versions": versions(),
        "programs": {name: path for name in PROGRAMS if (path := shutil.which(name))},
        "network": network(),
        "topology": gpu_topology(),
        "torch": torch_check(quick),
    }
    report["problems"] = problems(report)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller products, no copies")
    result = check(parser.parse_args().quick)
    print(json.dumps(result, indent=2))
    sys.exit(1 if result["problems"] else 0)
