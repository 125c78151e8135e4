"""The table of failure messages, in the order in which its rows are tried. See `failures`.

Sources: torch (c10 allocators, ProcessGroupNCCL, elastic), NCCL, CUDA, HIP, SYCL, Habana, XLA,
the Linux kernel, Slurm, PBS, LSF, Kubernetes, Ray, and the frameworks' own messages.
"""

from __future__ import annotations

from autotune.logs.rows.harmless import HARMLESS
from autotune.logs.rows.machine import COLLECTIVES, HARDWARE, PLACE
from autotune.logs.rows.memory import GPU_MEMORY, HOST_MEMORY
from autotune.logs.rows.program import CONFIG, CRASHES, DIVERGED, HANGS, MISSING

ROWS = (
    *HARMLESS,
    *HARDWARE,
    *HOST_MEMORY,
    *GPU_MEMORY,
    *PLACE,
    *MISSING,
    *CONFIG,
    *DIVERGED,
    *HANGS,
    *COLLECTIVES,
    *CRASHES,
)
