"""The table of failure messages, grouped by what they prove. See `failures` for its rules.

Sources: torch (c10 allocators, ProcessGroupNCCL, elastic), NCCL, CUDA, HIP, SYCL, Habana, XLA,
the Linux kernel, Slurm, PBS, LSF, Kubernetes, Ray, and the frameworks' own messages.
"""

from __future__ import annotations

from autotune.logs.failures import Row

_HINTS = (
    Row(None, "oom", r"(?:avoid|prevent|reduce|against|risk|help|hint|tip|debug)[^.]{0,60}\boom"),
    Row(None, "memory", r"\b(?:avoid\w*|prevent\w*|(?:may|might|can|could|will|likely to|would) (?:\w+ )?(?:run|go|get|be|lead"
        r"|result|cause|trigger)|if you|in case|when you|risk\w*|leads? to|encounter|handle)\b[^.:]{0,80}"
        r"(?:out of memory|out-of-memory|running out)"),
    Row(None, "memory", r"^\s*(?:#|//|\$|>>>|if\b|except\b|raise\b)[^:]*(?:out of memory|outofmemory)"),
    Row(None, "nan iterations"),
    Row(None, "overflow", r"skipping step|skip(?:ping|ped)|reducing|no grad overflow|gradient overflow"),
    Row(None, "closing signal"),
    Row(None, "signal handler"),
    Row(None, "nccl", r"process group has not been destroyed|nccl info|^\s*(?:\S+: ?)?nccl version|using nccl"),
)  # fmt: skip

_HARDWARE = (
    Row("gpu_hw", "ecc", r"uncorrectable|double[- ]bit|eccuncorrect"),
    Row("gpu_hw", "xid", r"xid(?: ?\([^)]*\))?(?: errors?)?(?: code)?[ :=#]*"
        r"(?:46|48|5[4678]|6[129]|74|79|8[01]|9[45]|1[0124]\d)\b"),
    Row(None, "xid", r"xid ?\(|nvrm|xid errors?"),
    Row("gpu_hw", "fallen off the bus"),
    Row("gpu_hw", "is lost", r"gpu is lost"),
    Row("gpu_hw", "nvlink", r"nvlink[^.]*(?:error|fail|fatal)|nvlink fatal"),
    Row("gpu_hw", "device handle", r"unable to determine the device handle"),
    Row("gpu_hw", "hardware error"),
    Row("gpu_hw", "device unavailable", r"cuda"),
    Row("gpu_hw", "busy or unavailable"),
    Row("gpu_hw", "system not yet initialized"),
    Row("gpu_hw", "version mismatch", r"nvml|driver"),
    Row("gpu_hw", "no cuda-capable device"),
    Row("gpu_hw", "hardware", r"cuda.{0,40}hardware|hardware stack error|hardware slowdown fail"),
    Row("gpu_hw", "illegal instruction", r"cuda"),
)  # fmt: skip

_HOST_MEMORY = (
    Row("oom_host", "oom-kill"),
    Row("oom_host", "oom_kill"),
    Row("oom_host", "oomkilled"),
    Row("oom_host", "oom killed"),
    Row("oom_host", "oom killer"),
    Row("oom_host", "out of memory: kill"),
    Row("oom_host", "out-of-memory handler"),
    Row("oom_host", "out of memory", r"(?:srun|slurmstepd).*out of memory|cgroup out of memory"
        r"|task \d+: out of memory|host out of memory|out of (?:host|system|cpu) memory"),
    Row("oom_host", "of host memory"),
    Row("oom_host", "memory limit", r"exceed.*memory limit|memory limit exceeded|over memory limit"),
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
    Row("shm", "shared memory", r"out of shared memory|insufficient shared memory|shared memory \(shm\)"
        r"|resource: shared memory|shared memory, required|shared memory object"),
    Row("shm", "bus error"),
    Row("shm", "/dev/shm", r"no space|fail"),
    Row("shm", "</torch_"),
    Row("shm", "outofresources"),
)  # fmt: skip

_DEVICE = r"(?:cuda|hip|rocm|xpu|npu|hpu|mps|musa|mlu|gpu|device|hbm|cudnn|cublas|nccl|rccl)"
_GPU_MEMORY = (
    Row("oom_gpu", "out of memory", _DEVICE + r".{0,80}out of memory|outofmemoryerror"
        r"|out of memory.{0,80}(?:alloc|" + _DEVICE + r")|(?:error|failed): out of memory"
        r"|'out of memory'|ran out of memory|\(2\) ?: out of memory"),
    Row("oom_gpu", "outofmemory"),
    Row("oom_gpu", "out_of_memory"),
    Row("oom_gpu", "out_of_device_memory"),
    Row("oom_gpu", "out of device memory"),
    Row("oom_gpu", "tried to allocate", r"tried to allocate [\d.,]+ ?[kmgt]?i?b"),
    Row("oom_gpu", "alloc", r"fail(?:ed|ure)?[^.]{0,30}(?:cuda|hip)(?:[ _]host)?[ _]?(?:calloc|malloc)"
        r"|(?:cuda|hip)malloc[^.]{0,30}fail"),
    Row("oom_gpu", "alloc_failed"),
    Row("oom_gpu", "memoryallocation"),
    Row("oom_gpu", "oom when allocating tensor"),
    Row("oom_gpu", "allocation failed", r"devmem|device|gpu|hbm"),
    Row("oom_gpu", "resource", r"resource[_ ]?exhausted.*(?:memory|hbm|oom|alloc)"),
    Row("oom_gpu", "memory space hbm"),
    Row("oom_gpu", "nvml_success == r"),
    Row("oom_gpu", "failed to allocate", r"(?:device|gpu|cuda|hip|xpu|hbm)"),
)  # fmt: skip

_PLACE = (
    Row("nccl", "no space left", r"nccl"),
    Row("disk_full", "no space left"),
    Row("disk_full", "quota exceeded"),
    Row("disk_full", "enospc"),
    Row("disk_full", "file write failed"),
    Row("disk_full", "failed writing file"),
    Row("disk_full", "unexpected pos"),
    Row("disk_full", "error", r"read-only file system|\[errno (?:5|28|30|116|121|122)\]"
        r"|i/o error|input/output error|stale file handle|disk (?:is )?full"),
    Row("port", "in use", r"address already in use|eaddrinuse|port \d+ (?:is )?(?:already )?in use"),
    Row("port", "eaddrinuse"),
    Row("port", "failed to listen"),
    Row("node_fail", "node_fail"),
    Row("node_fail", "node fail"),
    Row("node_fail", "lost communication"),
    Row("node_fail", "nodediederror"),
    Row("node_fail", "heartbeat", r"(?:node|raylet).*missed|missed.*heartbeat.*node"),
    Row("node_fail", "raylet", r"raylet.*(?:died|crashed|failed|unexpectedly)"),
    Row("node_fail", "not responding", r"\bnode\b|slurmd|host"),
    Row("node_fail", "node down"),
    Row("node_fail", "connection to node", r"lost"),
    Row("node_fail", "terminat", r"instance (?:was )?terminated"),
    Row("time_limit", "time limit", r"due to time limit|time limit (?:was |has been )?(?:reached|exceeded|hit)"
        r"|exceeded.*time limit|reached.*time limit"),
    Row("time_limit", "timelimit", r"timelimit(?: was)? (?:reached|exceeded)|state=timeout"),
    Row("time_limit", "walltime", r"walltime .*exceed|exceed.*walltime"),
    Row("time_limit", "wall time", r"exceed|reached"),
    Row("time_limit", "runlimit"),
    Row("time_limit", "deadlineexceeded"),
    Row("preempted", "preempt", r"due to preemption|preempted|preemption (?:signal|notice|requested|detected|received)"
        r"|received preempt|preempting job"),
    Row("preempted", "spot", r"spot (?:instance )?interruption|spot instance .*terminat"),
    Row("preempted", "interruption notice"),
    Row("preempted", "sigterm", r"receiv|caught|got|detected|exit"),
    Row("preempted", "signal", r"(?:got|received|caught)(?: a)?(?: termination)? signal:? ?(?:15|\(15\)|sigterm|sigusr)"
        r"|after receiving sigterm|signal_handler.*15|terminated by signal 15"),
    Row("preempted", "signalexception"),
    Row("cancelled", "cancelled at"),
    Row("cancelled", "cancelled", r"job (?:\S+ )?(?:was |has been )?cancelled|was cancelled by"),
    Row("cancelled", "keyboardinterrupt"),
)  # fmt: skip

_MISSING = (
    Row("missing", "error", r"modulenotfounderror|importerror|filenotfounderror|permissionerror"
        r"|notadirectoryerror|isadirectoryerror|syntaxerror|indentationerror|nameerror"
        r"|no module named"),
    Row("missing", "error", r"40[134] client error|gatedrepo|repositorynotfound|entrynotfound"
        r"|datasetnotfound|hfvalidationerror|localtokennotfound|revisionnotfound"
        r"|errno 2\]|errno 13\]"),
    Row("missing", "gated", r"gated (?:repo|model|dataset)|is gated"),
    Row("missing", "no such file or directory", r"error|traceback|can't open|cannot open|bash:|sh:|python"),
    Row("missing", "command not found"),
    Row("missing", "executable file", r"not found"),
    Row("missing", "can't open file"),
    Row("missing", "cannot open", r"error"),
    Row("missing", "can't load", r"tokenizer|model|config|for '"),
    Row("missing", "error", r"is not a (?:local folder|valid model identifier)|couldn't (?:connect to|find a dataset)"
        r"|could not (?:find|locate|open)|does ?n[o']t exist|not exist|unauthorized|invalid (?:username|token|credential)"
        r"|unable to (?:open|find|locate)|couldn't reach|no training data|dataset .*(?:missing|not found|empty)"),
    Row("missing", "no cuda", r"no cuda gpus are available"),
    Row("missing", "not compiled with cuda"),
    Row("missing", "no nvidia driver"),
    Row("missing", "permission denied", r"error|bash|sh:|errno|publickey|cannot|can't|failed"),
)  # fmt: skip

_CONFIG = (
    Row("config", "error: argument"),
    Row("config", "unrecognized arguments"),
    Row("config", "arguments are required"),
    Row("config", "invalid choice"),
    Row("config", "error: unrecognized"),
    Row("config", "no such option"),
    Row("config", "deepspeedconfigerror"),
    Row("config", "check batch related parameters"),
    Row("config", "configkeyerror"),
    Row("config", "configattributeerror"),
    Row("config", "error", r"could not override|is not in struct|missingmandatoryvalue|missing mandatory"
        r"|configcompositionexception|validationerror|validation errors? for|configuration error"
        r"|config(?:uration)? (?:is )?invalid|invalid config"),
    Row("config", "not divisible"),
    Row("config", "divisible by"),
    Row("config", "validation error", r"validation errors? for"),
    Row("config", "loading state_dict"),
    Row("config", "size mismatch for"),
)  # fmt: skip

_DIVERGED = (
    Row("nan", "loss scale", r"minimum loss scale reached|already at minimum"
        r"|probably exploding"),
    Row("nan", "'grad_norm': nan", r"'loss': 0(?:\.0+)?,"),
    Row("nan", "'grad_norm': 'nan", r"'loss': '0(?:\.0+)?',"),
    Row("nan", "nan", r"loss[^|,;]{0,12}(?:is|became|becomes|turned|went|=|:)?[ '\":=]*nan\b|nan[^a-z]{1,3}loss"
        r"|(?:found|detected|encountered|hit|got)[^|,]{0,30}\bnans?\b[^|,]{0,60}(?:loss|grad|forward|logits|weight|param)"
        r"|\bnans? (?:detected|found|encountered|in (?:loss|grad|local))|non-finite loss"
        r"|loss (?:is|was) (?:nan|inf|not finite|infinite)|nan or inf(?:inity)? (?:found|detected|in)"),
    Row("nan", "error", r"loss is (?:inf|not finite|non-finite)|non-?finite loss|floatingpointerror|loss diverged"),
)  # fmt: skip

_HANGS = (
    Row("hang", "timeout", r"^timeout \(\d+:\d\d:\d\d\)!"),
    Row("hang", "hang", r"hang(?:ing)? (?:was )?detected|detected (?:a )?hang|(?:appears|seems) to (?:be )?hang|job (?:is )?hang(?:ing|s)"
        r"|possible hang|training hang"),
    Row("hang", "hung", r"(?:appears|seems) to (?:be|have) hung|(?:is|process|job|rank \d+) hung|hung task"),
    Row("hang", "blocked for more than"),
    Row("hang", "deadlock", r"deadlock (?:detected|occur)|detected (?:a )?deadlock|possible deadlock"),
    Row("hang", "monitoredbarrier"),
    Row("hang", "no progress", r"no progress (?:for|in|since)|made no progress"),
    Row("hang", "stuck", r"(?:is|are|got|appears|process|training|job|ranks?(?: \d+)?) stuck"),
    Row("hang", "heartbeat", r"heartbeat(?:s)? (?:timeout|timed out|not received)|(?:did not|didn't) (?:get|receive) .*heartbeat"),
)  # fmt: skip

_COLLECTIVES = (
    Row("nccl", "nccl", r"nccl (?:error|operations have failed|communicator was aborted|warn.*(?:fail|error|timed? ?out|abort|mismatch))"
        r"|nccl(?:system|internal|unhandled\w*|remote|invalid\w*|in progress)error|ncclinvalid(?:usage|argument)"
        r"|processgroupnccl.*(?:exception|timed? ?out|timeout|terminat|abort|failed|stuck|taking the entire process)"
        r"|error in: .*nccl|heartbeat monitor timed out"),
    Row("nccl", "error", r"unhandled (?:system|cuda) error|(?:r|h|m|x|one)ccl (?:error|internal|comm)|ccl_error|ccl::v\d"),
    Row("nccl", "watchdog", r"collective|timeout|timed out|caught"),
    Row("nccl", "entire process down"),
    Row("nccl", "collective operation timeout"),
    Row("nccl", "connection reset by peer"),
    Row("nccl", "connection closed by", r"peer|remote"),
    Row("nccl", "connection refused", r"error|peer|store|master|rendezvous|rank"),
    Row("nccl", "connection", r"connection (?:was )?(?:likely )?(?:broken|lost)|connectionreseterror|broken pipe.*(?:store|peer)"),
    Row("nccl", "timed out", r"(?:socket|store|rendezvous|client socket|tcpstore|wait|barrier|gloo|connect)[^.]{0,60}timed out"
        r"|timed out (?:waiting|initializing|after|in)"),
    Row("nccl", "timeout", r"(?:socket|store|rendezvous|tcpstore|wait|collective|barrier|gloo|connect)\w*[^.]{0,40}(?:timeout|time out)"
        r"|rendezvoustimeout"),
    Row("nccl", "error", r"dist(?:network|store|backend)error|rendezvous\w*error|\[errno 1(?:04|10|11)\]|gloo.*(?:fail|error)"),
    Row("nccl", "got completion", r"status="),
    Row("nccl", "duplicate gpu", r"detected"),
)  # fmt: skip

_CRASHES = (
    Row("crash", "traceback (most recent call last)"),
    Row("crash", "segmentation fault"),
    Row("crash", "terminate called"),
    Row("crash", "fatal python error"),
    Row("crash", "core dumped"),
    Row("crash", "childfailederror"),
    Row("crash", "cuda error"),
    Row("crash", "hip error"),
    Row("crash", "internal assert failed"),
    Row("crash", "error executing job"),
    Row("crash", "exit", r"exit(?:ed|s)? with (?:non-?zero |an? )?(?:exit |return |error )*(?:code|status)[ :=]*-?(?!0\b)\d"
        r"|non-?zero (?:exit|return|status)|exitcode[ :]+-?(?!0\b)\d|exit status [1-9]|return code ?= ?-?[1-9]"),
    Row("crash", "signal", r"(?:signal|received) (?:6|7|8|9|11|sigsegv|sigabrt|sigbus|sigkill|sigfpe)\b|sig(?:segv|abrt|bus|kill|fpe)\)"
        r"|caught signal"),
    Row("crash", "abort", r"^\s*aborted|mpi_abort|aborted \(|sigabrt"),
    Row("crash", "error", r"(?:^|[\s\]:>|(])(?:\w+\.)*\w{2,}(?:error|exception)(?::|$)|^\w*(?:error|exception)(?::|$)"
        r"|\w(?:error|exception): "),
    Row("crash", "exception ignored"),
    Row("crash", "exception", r"(?:^|[\s\]:>|(])(?:\w+\.)*\w*exception(?::|$)"),
    Row("crash", "failed", r"\.(?:sh|py) failed|(?:job|step|task|worker|run|training) (?:\S+ )?failed\b(?! to)"),
    Row("killed", "kill", r"^\s*(?:\S+: line \d+: +\d+ )?killed\b(?: +\S.*)?$"),
)  # fmt: skip

ROWS = (
    _HINTS
    + _HARDWARE
    + _HOST_MEMORY
    + _GPU_MEMORY
    + _PLACE
    + _MISSING
    + _CONFIG
    + _DIVERGED
    + _HANGS
    + _COLLECTIVES
    + _CRASHES
)
