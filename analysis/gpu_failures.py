"""Every way in which one GPU shows that memory ran out, provoked for real and diagnosed.

    python analysis/gpu_failures.py --out DIR        # needs one GPU and torch

Each form runs in a process of its own; what it printed and how it ended go through the same
parser and diagnosis as a trial's. Writes ``oom_forms.json`` (form, exit, outcome, evidence) and
``oom_forms.txt``, the raw outputs in the form of `tests/logs/fixtures`, to be kept as fixtures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autotune.logs import EvidenceCollector, LogReader, SampleTally, diagnose
from autotune.trial import GangStatus, RankExit

GIB = 2**30
LONGEST_S = 120.0
KEPT_LINES = 40


def fill(leave_mib: int) -> list[Any]:
    """Take the device's memory but for about ``leave_mib`` MiB, in torch's allocator."""
    import torch

    taken: list[Any] = []
    for size in (GIB, 64 << 20, 2 << 20):
        try:
            while torch.cuda.mem_get_info()[0] - (leave_mib << 20) > size:
                taken.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            continue
    return taken


def torch_allocation() -> None:
    """The caching allocator asks for more than there is."""
    import torch

    held = [torch.empty(GIB, dtype=torch.uint8, device="cuda") for _ in range(4096)]
    print(len(held))


def training_step() -> None:
    """Activations that no longer fit."""
    import torch

    model = torch.nn.Sequential(*(torch.nn.Linear(8192, 8192) for _ in range(8))).cuda()
    held = fill(3 * 1024)
    model(torch.randn(16384, 8192, device="cuda")).sum().backward()
    print(len(held))


def cublas_handle() -> None:
    """The first matrix product finds no memory for cuBLAS."""
    import torch

    a = torch.ones(64, 64, device="cuda")
    held = fill(1)
    print(len(held), (a @ a).sum().item())


def nccl_start() -> None:
    """The first collective finds no memory for NCCL's buffers."""
    import torch
    import torch.distributed as dist

    dist.init_process_group(
        "nccl", store=dist.HashStore(), rank=0, world_size=1, device_id=torch.device("cuda", 0)
    )
    a = torch.ones(1 << 20, device="cuda")
    held = fill(1)
    dist.all_reduce(a)
    torch.cuda.synchronize()
    group = dist.new_group([0])
    dist.all_reduce(a, group=group)
    torch.cuda.synchronize()
    print(len(held))


def while_compiling() -> None:
    """torch.compile's first call of a function whose buffers do not fit."""
    import torch

    a = torch.randn(8192, 8192, device="cuda")
    held = fill(300)
    run = torch.compile(lambda x: (torch.relu(x @ x) @ x).softmax(-1) @ x)
    print(len(held), run(a).sum().item())


def second_process() -> None:
    """A process that starts while another holds the whole device."""
    held = fill(1)
    code = "import torch; torch.ones(1, device='cuda'); print('ran')"
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    print(len(held))
    sys.exit(ended.returncode)


def cuda_graph() -> None:
    """Capture of a CUDA graph whose private pool does not fit."""
    import torch

    a = torch.randn(8192, 8192, device="cuda")
    torch.mm(a, a)
    torch.cuda.synchronize()
    held = fill(128)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        b = a @ a
        c = b @ a
    print(len(held), c.shape)


def host_allocation() -> None:
    """The host refuses a tensor: an address-space limit, as ulimit sets."""
    import torch

    resource.setrlimit(resource.RLIMIT_AS, (24 * GIB, 24 * GIB))
    print(torch.ones(64 * GIB, dtype=torch.uint8).sum())


FORMS: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "torch_allocation": (torch_allocation, ("oom_gpu",)),
    "training_step": (training_step, ("oom_gpu",)),
    "cublas_handle": (cublas_handle, ("oom_gpu",)),
    "nccl_start": (nccl_start, ("oom_gpu",)),
    "while_compiling": (while_compiling, ("oom_gpu",)),
    "second_process": (second_process, ("oom_gpu", "infra")),
    "cuda_graph": (cuda_graph, ("oom_gpu",)),
    "host_allocation": (host_allocation, ("oom_host",)),
}
"""Form -> (what provokes it, outcomes that are right)."""


def provoke(name: str) -> dict[str, Any]:
    """Run one form and diagnose it as a trial of one rank."""
    env = {**os.environ, "NCCL_DEBUG": "WARN"}
    command = [sys.executable, __file__, "--form", name]
    ended = subprocess.run(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LONGEST_S,
        check=False,
    )
    evidence = EvidenceCollector()
    for line in LogReader().feed(ended.stdout + b"\n"):
        evidence.feed(line)
    killed = ended.returncode < 0
    code, signal = (None, -ended.returncode) if killed else (ended.returncode, None)
    exits = (RankExit(0, code, signal),)
    told = diagnose(GangStatus("exited", exits=exits), evidence, SampleTally())
    right = FORMS[name][1]
    return {
        "form": name,
        "exit_code": ended.returncode,
        "outcome": str(told.outcome),
        "right": str(told.outcome) in right,
        "evidence": list(told.evidence),
        "lines": ended.stdout.decode(errors="replace").splitlines()[-KEPT_LINES:],
    }


def main() -> None:
    """Provoke all forms, or one (in a process of its own)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=FORMS)
    parser.add_argument("--out", type=Path, default=Path("analysis/results/gpu"))
    given = parser.parse_args()
    if given.form:
        FORMS[given.form][0]()
        return
    found = []
    for name in FORMS:
        found.append(provoke(name))
        print(f"{name}: exit {found[-1]['exit_code']}, {found[-1]['outcome']}", flush=True)
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "oom_forms.json").write_text(json.dumps(found, indent=1) + "\n")
    text = "".join(
        f"@@ {one['form']} {json.dumps({'status': FORMS[one['form']][1][0]})}\n"
        + "".join(f"{line}\n" for line in one["lines"])
        for one in found
        if one["exit_code"] != 0
    )
    (given.out / "oom_forms.txt").write_text(text)


if __name__ == "__main__":
    main()
