"""What proves that memory ran out: the host's, shared memory, a device's."""

from __future__ import annotations

from autotune.logs.failures import Row

HOST_MEMORY = (
    Row("oom_gpu", "bad_alloc", r"out_of_memory|cudaerror|hiperror"),
    Row("oom_host", "oom-kill"),
    Row("oom_host", "oom_kill"),
    Row("oom_host", "oomkilled"),
    Row("oom_host", "oom killed"),
    Row("oom_host", "oom killer"),
    Row("oom_host", "out of memory: kill"),
    Row("oom_host", "out-of-memory handler"),
    Row(
        "oom_host",
        "out of memory",
        r"(?:srun|slurmstepd).*out of memory|cgroup out of memory"
        r"|task \d+: out of memory|host out of memory|out of (?:host|system|cpu) memory",
    ),
    Row("oom_host", "of host memory"),
    Row(
        "oom_host", "memory limit", r"exceed.*memory limit|memory limit exceeded|over memory limit"
    ),
    Row("oom_host", "killed: mem"),
    Row("oom_host", "memlimit"),
    Row("oom_host", "low on memory"),
    Row("oom_host", "memory pressure", r"kill|oom"),
    Row("oom_host", "cannot allocate memory"),
    Row("oom_host", "defaultcpuallocator", r"can't allocate|not enough|cannot allocate"),
    Row("oom_host", "not enough memory: you tried to allocate"),
    Row("oom_host", "bad_alloc"),
    Row("oom_host", "memoryerror", r"(?<!outof)memoryerror(?!\w)"),
    Row("oom_host", "unable to allocate", r"unable to allocate .*(?:array|shape|data type)"),
    Row("oom_host", "java.lang.outofmemory"),
    Row("oom_host", "ray.exceptions.outofmemory"),
    Row("oom_host", "is killed by signal: killed"),
    Row(
        "shm",
        "shared memory",
        r"out of shared memory|insufficient shared memory|shared memory \(shm\)"
        r"|resource: shared memory|shared memory, required|shared memory object",
    ),
    Row("shm", "bus error"),
    Row("shm", "/dev/shm", r"no space|fail"),
    Row("shm", "</torch_"),
    Row("shm", "outofresources"),
)

_DEVICE = r"(?:cuda|hip|rocm|xpu|npu|hpu|mps|musa|mlu|gpu|device|hbm|cudnn|cublas|nccl|rccl)"

GPU_MEMORY = (
    Row("oom_gpu", "memory isn't enough and alloc failed"),
    Row(
        "oom_gpu",
        "out of memory",
        _DEVICE + r".{0,80}out of memory|outofmemoryerror"
        r"|out of memory.{0,80}(?:alloc|" + _DEVICE + r")|(?:error|failed):? out of memory"
        r"|'out of memory'|(?:^|[\]:>|]) *out of memory\W*$|ran out of memory"
        r"|\(2\) ?: out of memory",
    ),
    Row("oom_gpu", "outofmemory"),
    Row("oom_gpu", "out_of_memory"),
    Row("oom_gpu", "out_of_device_memory"),
    Row("oom_gpu", "error_out_of_resources", r"(?:hsa_status|pi|ur_result)_error"),
    Row("oom_gpu", "no executable batch size"),
    Row("oom_gpu", "out of device memory"),
    Row("oom_gpu", "tried to allocate", r"tried to allocate [\d.,]+ ?[kmgt]?i?b"),
    Row(
        "oom_gpu",
        "alloc",
        r"fail(?:ed|ure)?[^.]{0,30}(?:cuda|hip)(?:[ _]host)?[ _]?(?:calloc"
        r"|malloc)"
        r"|(?:cuda|hip)malloc[^.]{0,30}fail",
    ),
    Row("oom_gpu", "total capac", r"total capaci?ty(?: of|;)"),
    Row("oom_gpu", "alloc_failed"),
    Row("oom_gpu", "memoryallocation"),
    Row("oom_gpu", "oom when allocating tensor"),
    Row("oom_gpu", "allocation failed", r"devmem|device|gpu|hbm"),
    Row("oom_gpu", "resource", r"resource[_ ]?exhausted.*(?:memory|hbm|oom|alloc)"),
    Row("oom_gpu", "memory space hbm"),
    Row("oom_gpu", "nvml_success == r"),
    Row("oom_gpu", "failed to allocate", r"(?:device|gpu|cuda|hip|xpu|hbm)"),
)
