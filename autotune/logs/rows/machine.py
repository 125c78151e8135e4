"""What proves that the place failed us: GPU, disk, port, node, scheduler, network."""

from __future__ import annotations

from autotune.logs.failures import Row

HARDWARE = (
    Row("gpu_hw", "ecc", r"uncorrectable|double[- ]bit|eccuncorrect"),
    Row(
        "gpu_hw",
        "xid",
        r"xid(?: ?\([^)]*\))?(?: errors?)?(?: code)?[ :=#]*"
        r"(?:46|48|5[4678]|6[129]|74|79|8[01]|9[45]|1[0124]\d)\b",
    ),
    Row(None, "xid", r"xid ?\(|nvrm|xid errors?"),
    Row("gpu_hw", "fallen off the bus"),
    Row("gpu_hw", "hw exception by gpu"),
    Row("gpu_hw", "failed to initialize nvml"),
    Row("gpu_hw", "device_lost"),
    Row("gpu_hw", "device lost"),
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
)

PLACE = (
    Row("nccl", "no space left", r"nccl"),
    Row("disk_full", "no space left"),
    Row("disk_full", "quota exceeded"),
    Row("disk_full", "enospc"),
    Row("disk_full", "file write failed"),
    Row("disk_full", "failed writing file"),
    Row("disk_full", "unexpected pos"),
    Row(
        "disk_full",
        "error",
        r"read-only file system|\[errno (?:5|28|30|116|121|122)\]"
        r"|i/o error|input/output error|stale file handle|disk (?:is )?full",
    ),
    Row(
        "port", "in use", r"address already in use|eaddrinuse|port \d+ (?:is )?(?:already )?in use"
    ),
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
    Row(
        "time_limit",
        "time limit",
        r"due to time limit|time limit (?:was |has been )?(?:reached|exceeded"
        r"|hit)"
        r"|exceeded.*time limit|reached.*time limit",
    ),
    Row("time_limit", "timelimit", r"timelimit(?: was)? (?:reached|exceeded)|state=timeout"),
    Row("time_limit", "walltime", r"walltime .*exceed|exceed.*walltime"),
    Row("time_limit", "wall time", r"exceed|reached"),
    Row("time_limit", "runlimit"),
    Row("time_limit", "deadlineexceeded"),
    Row(
        "preempted",
        "preempt",
        r"due to preemption|preempted|preemption (?:signal|notice|requested"
        r"|detected|received)"
        r"|received preempt|preempting job",
    ),
    Row("preempted", "spot", r"spot (?:instance )?interruption|spot instance .*terminat"),
    Row("preempted", "interruption notice"),
    Row("sigterm", "sigterm", r"receiv|caught|got|detected|exit"),
    Row(
        "sigterm",
        "signal",
        r"(?:got|received|caught)(?: a)?(?: termination)? signal:? ?(?:15"
        r"|\(15\)|sigterm|sigusr)"
        r"|after receiving sigterm|signal_handler.*15|terminated by signal 15",
    ),
    Row("sigterm", "signalexception"),
    Row("cancelled", "cancelled at"),
    Row("cancelled", "cancelled", r"job (?:\S+ )?(?:was |has been )?cancelled|was cancelled by"),
    Row("cancelled", "keyboardinterrupt"),
    Row("cancelled", "killed at"),
    Row("cancelled", "job step aborted"),
    Row("cancelled", "forcing job termination"),
    Row("cancelled", "force terminated"),
    Row(
        "cancelled",
        "terminated",
        r"(?:^|[\]:>|)]) *terminated\s*$|line \d+: +\d+ terminated\b",
    ),
    Row("cancelled", "interrupt", r"one more within"),
)

COLLECTIVES = (
    Row("crash", "timeoutexpired"),
    Row(
        "nccl",
        "nccl",
        r"nccl (?:error|operations have failed|communicator was aborted"
        r"|warn.*(?:fail|error|timed? ?out|abort|mismatch))"
        r"|nccl(?:system|internal|unhandled\w*|remote|invalid\w*|in progress)error"
        r"|ncclinvalid(?:usage|argument)"
        r"|processgroupnccl.*(?:exception|timed? ?out|timeout|terminat|abort"
        r"|failed|stuck|taking the entire process)"
        r"|error in: .*nccl|heartbeat monitor timed out",
    ),
    Row(
        "nccl",
        "error",
        r"unhandled (?:system|cuda) error|(?:r|h|m|x|one)ccl (?:error|internal"
        r"|comm)|ccl_error|ccl::v\d",
    ),
    Row("nccl", "watchdog", r"collective|timed out|caught|got stuck|terminated with exception"),
    Row("nccl", "entire process down"),
    Row("nccl", "collective operation timeout"),
    Row("nccl", "connection reset by peer"),
    Row("nccl", "connection closed by", r"peer|remote"),
    Row("nccl", "connection refused", r"error|peer|store|master|rendezvous|rank"),
    Row(
        "nccl",
        "connection",
        r"connection (?:was )?(?:likely )?(?:broken|lost)|connectionreseterror"
        r"|broken pipe.*(?:store|peer)",
    ),
    Row(
        "nccl",
        "timed out",
        r"(?:socket|store|rendezvous|client socket|tcpstore|wait|barrier"
        r"|gloo|connect)[^.]{0,60}timed out"
        r"|timed out (?:waiting|initializing|after|in)",
    ),
    Row(
        "nccl",
        "timeout",
        r"(?:socket|store|rendezvous|wait|barrier|gloo|connect(?:ion)?) timeout(?! ?[:=_\w])"
        r"|(?:nccl|collective|store|barrier|allreduce)\b[^.:=]{0,40}\btimeout "
        r"(?:error|exceeded|expired|reached|after)"
        r"|rendezvoustimeout|timeouterror|errno[: ]*110",
    ),
    Row(
        "nccl",
        "error",
        r"dist(?:network|store|backend)error|rendezvous\w*error|\[errno 1"
        r"(?:04|10|11)\]|gloo.*(?:fail|error)",
    ),
    Row("nccl", "got completion", r"status="),
    Row("nccl", "ucx", r"\bucx +(?:error|fatal)\b"),
    Row("nccl", "duplicate gpu", r"detected"),
)
