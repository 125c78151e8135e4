"""The table of failure messages, grouped by what they prove. See `failures` for its rules."""

from __future__ import annotations

from autotune.logs.failures import Row

_HARMLESS = (
    Row(None, "oom", r"(?:avoid|prevent|reduce|risk|help|hint)[^.]{0,60}\boom\b"),
    Row(None, "memory", r"(?:avoid|prevent|may|might|could|likely to|if you|in case|when you|risk)"
        r"\b[^.:]{0,80}(?:out of memory|out-of-memory|running out)"),
    Row(None, "nccl", r"process group has not been destroyed"),
    Row(None, "nan iterations"),
    Row(None, "overflow", r"skipping step|reducing (?:dynamic )?loss scale|no grad overflow"),
    Row(None, "closing signal sigterm"),
    Row(None, "exception ignored in"),
)  # fmt: skip

_HOST_MEMORY = (
    Row("oom_host", "oom-kill"),
    Row("oom_host", "oom_kill"),
    Row("oom_host", "oomkilled"),
    Row("oom_host", "out of memory: kill"),
    Row("oom_host", "out-of-memory handler"),
    Row("oom_host", "out of memory", r"(?:srun|slurmstepd).*out of memory|: out of memory$"
        r"(?<!error: out of memory)|cgroup out of memory"),
    Row("oom_host", "memory limit", r"exceeded.*memory limit|memory limit exceeded"),
    Row("oom_host", "memlimit"),
    Row("oom_host", "running low on memory"),
    Row("oom_host", "memory pressure"),
    Row("oom_host", "cannot allocate memory"),
    Row("oom_host", "defaultcpuallocator", r"can't allocate|not enough"),
    Row("oom_host", "bad_alloc"),
    Row("oom_host", "memoryerror", r"(?<!outof)memoryerror"),
    Row("oom_host", "unable to allocate", r"unable to allocate .*(?:array|shape)"),
    Row("oom_host", "is killed by signal: killed"),
    Row("shm", "shared memory", r"out of shared memory|insufficient shared memory"
        r"|resource: shared memory|shared memory, required"),
    Row("shm", "bus error"),
    Row("shm", "outofresources"),
)  # fmt: skip

_DEVICE = r"(?:cuda|hip|xpu|npu|hpu|mps|musa|mlu|gpu|device|hbm|cudnn|cublas|nccl)"
_GPU_MEMORY = (
    Row("oom_gpu", "out of memory", _DEVICE + r".{0,60}out of memory|outofmemoryerror"
        r"|out of memory.{0,60}(?:allocat|" + _DEVICE + r")|error: out of memory"),
    Row("oom_gpu", "outofmemory"),
    Row("oom_gpu", "out_of_memory"),
    Row("oom_gpu", "out_of_device_memory"),
    Row("oom_gpu", "tried to allocate", r"tried to allocate [\d.]+ ?[kmgt]i?b"),
    Row("oom_gpu", "alloc", r"failed to (?:cuda|hip) (?:calloc|malloc)"),
    Row("oom_gpu", "alloc_failed"),
    Row("oom_gpu", "memoryallocation"),
    Row("oom_gpu", "oom when allocating tensor"),
    Row("oom_gpu", "allocation failed", r"devmem"),
    Row("oom_gpu", "resource_exhausted", r"memory|hbm"),
)  # fmt: skip

_HARDWARE = (
    Row("gpu_hw", "ecc", r"uncorrectable|double[- ]bit"),
    Row("gpu_hw", "xid", r"xid[ :(].*?\): *"
        r"(?:46|48|5[4678]|6[1279]|74|79|8[01]|9[245]|1[0124]\d)\b"),
    Row("gpu_hw", "fallen off the bus"),
    Row("gpu_hw", "resource", r"gpu is lost"),
)  # fmt: skip

_PLACE = (
    Row("disk_full", "no space left on device"),
    Row("disk_full", "quota exceeded"),
    Row("port", "in use", r"address already in use|eaddrinuse|port \d+ .*in use"),
    Row("port", "failed to listen"),
    Row("node_fail", "fail", r"node[ _]fail"),
    Row("time_limit", "time limit", r"due to time limit|time limit (?:reached|exceeded)"),
    Row("time_limit", "walltime", r"walltime .*exceed|exceed.*walltime"),
    Row("time_limit", "runlimit"),
    Row("preempted", "preempt", r"due to preemption|preempted|preemption (?:signal|notice)"),
    Row("preempted", "sigterm", r"receiv|caught|got"),
    Row("cancelled", "cancelled at"),
    Row("cancelled", "keyboardinterrupt"),
)  # fmt: skip

_USER = (
    Row("missing", "modulenotfounderror"),
    Row("missing", "importerror"),
    Row("missing", "filenotfounderror"),
    Row("missing", "permissionerror"),
    Row("missing", "error", r"40[13] client error|gatedrepo|repositorynotfound"),
    Row("config", "assertionerror", r"assertionerror: .*\w+ \w+ \w+"),
    Row("config", "error: argument"),
    Row("config", "error: unrecognized arguments"),
    Row("config", "deepspeedconfigerror"),
    Row("config", "not divisible"),
    Row("config", "must be divisible"),
)  # fmt: skip

_COLLECTIVES = (
    Row("nccl", "nccl", r"nccl (?:error|operations have failed)|nccl\w*error|watchdog caught"),
    Row("nccl", "connection reset by peer"),
)  # fmt: skip

_CRASH = (
    Row("crash", "traceback (most recent call last)"),
    Row("crash", "segmentation fault"),
    Row("crash", "terminate called"),
    Row("crash", "childfailederror"),
    Row("crash", "error", r"(?:^|[\s\]])(?:\w+\.)*\w*error: "),
    Row("killed", "kill", r"^\s*killed\s*$"),
)  # fmt: skip

ROWS = _HARMLESS + _HOST_MEMORY + _GPU_MEMORY + _HARDWARE + _PLACE + _USER + _COLLECTIVES + _CRASH
