"""What proves that the program ended itself: files, configuration, NaN, hangs, crashes."""

from __future__ import annotations

from autotune.logs.failures import Row

MISSING = (
    Row(
        "missing",
        "error",
        r"modulenotfounderror|importerror|filenotfounderror|permissionerror"
        r"|notadirectoryerror|isadirectoryerror|syntaxerror|indentationerror|nameerror"
        r"|no module named",
    ),
    Row(
        "missing",
        "error",
        r"40[134] client error|gatedrepo|repositorynotfound|entrynotfound"
        r"|datasetnotfound|hfvalidationerror|localtokennotfound|revisionnotfound"
        r"|errno 2\]|errno 13\]",
    ),
    Row("missing", "gated", r"gated (?:repo|model|dataset)|is gated"),
    Row(
        "missing",
        "no such file or directory",
        r"error|traceback|can't open|cannot open|bash:|sh:|python",
    ),
    Row("missing", "command not found"),
    Row("missing", "executable file", r"not found"),
    Row("missing", "can't open file"),
    Row("missing", "cannot be found", r"path|file|director|dataset|checkpoint"),
    Row("missing", "cannot open", r"error"),
    Row("missing", "can't load", r"tokenizer|model|config|for '"),
    Row(
        "missing",
        "error",
        r"is not a (?:local folder|valid model identifier)|couldn't (?:connect to"
        r"|find a dataset)"
        r"|could not (?:find|locate|open)|does ?n[o']t exist|not exist|unauthorized"
        r"|invalid (?:username|token|credential)"
        r"|unable to (?:open|find|locate)|couldn't reach|no training data"
        r"|dataset .*(?:missing|not found|empty)",
    ),
    Row("missing", "no cuda", r"no cuda gpus are available"),
    Row("missing", "not compiled with cuda"),
    Row("missing", "no nvidia driver"),
    Row("missing", "permission denied", r"error|bash|sh:|errno|publickey|cannot|can't|failed"),
)

CONFIG = (
    Row("config", "error: argument"),
    Row("config", "unrecognized arguments"),
    Row("config", "arguments are required"),
    Row("config", "invalid choice"),
    Row("config", "error: unrecognized"),
    Row("config", "no such option"),
    Row("config", "deepspeedconfigerror"),
    Row("config", "check batch related parameters"),
    Row("config", "configkeyerror"),
    Row("config", "could not override"),
    Row("config", "is not in struct"),
    Row("config", "configattributeerror"),
    Row(
        "config",
        "error",
        r"could not override|is not in struct|missingmandatoryvalue|missing mandatory"
        r"|configcompositionexception|validationerror|validation errors? for|configuration error"
        r"|config(?:uration)? (?:is )?invalid|invalid config",
    ),
    Row("config", "not divisible"),
    Row("config", "divisible by"),
    Row("config", "validation error", r"validation errors? for"),
    Row("config", "loading state_dict"),
    Row("config", "size mismatch for"),
)

DIVERGED = (
    Row(
        "nan",
        "loss scale",
        r"minimum loss scale reached|already at minimum"
        r"|probably exploding",
    ),
    Row("nan", "'grad_norm': nan", r"'loss': 0(?:\.0+)?,"),
    Row("nan", "'grad_norm': 'nan", r"'loss': '0(?:\.0+)?',"),
    Row("nan", "inf/nan", r"detected|found|abort"),
    Row("nan", "returned nan values"),
    Row("nan", "loss returned", r"\bis (?:nan|inf)"),
    Row("nan", "nan/inf", r"detected|found|abort"),
    Row(
        "nan",
        "nan",
        r"loss[^|,;]{0,12}(?:is|became|becomes|turned|went|=|:)?[ '\":=]*nan\b"
        r"|nan[^a-z]{1,3}loss"
        r"|(?:found|detected|encountered|hit|got)[^|,]{0,30}\bnans?\b[^"
        r"|,]{0,60}(?:loss|grad|forward|logits|weight|param)"
        r"|\bnans? (?:detected|found|encountered|in (?:loss|grad|local))|non-finite loss"
        r"|loss (?:is|was) (?:nan|inf|not finite|infinite)|nan or inf(?:inity)? "
        r"(?:found|detected|in)",
    ),
    Row(
        "nan",
        "error",
        r"loss is (?:inf|not finite|non-finite)|non-?finite loss|floatingpointerror"
        r"|loss diverged",
    ),
)

HANGS = (
    Row("hang", "mainthread", r"thread (?:0x)?\w+ \((?:active|idle)"),
    Row("hang", "timeout", r"\btimeout \(\d+:\d\d:\d\d\)!"),
    Row(
        "hang",
        "hang",
        r"hang(?:ing)? (?:was )?detected|detected (?:a )?hang|(?:appears"
        r"|seems) to (?:be )?hang|job (?:is )?hang(?:ing|s)"
        r"|possible hang|training hang",
    ),
    Row(
        "hang",
        "hung",
        r"(?:appears|seems) to (?:be|have) hung|(?:is|process|job|rank \d+) hung" r"|hung task",
    ),
    Row("hang", "blocked for more than"),
    Row(
        "hang",
        "deadlock",
        r"deadlock (?:detected|occur)|detected (?:a )?deadlock|possible deadlock",
    ),
    Row("hang", "monitoredbarrier"),
    Row("hang", "no progress", r"no progress (?:for|in|since)|made no progress"),
    Row(
        "hang",
        "stuck",
        r"(?:is|are|got|appears(?: to be)?|process|training|job|ranks?(?: \d+)?) stuck",
    ),
    Row(
        "hang",
        "heartbeat",
        r"heartbeat(?:s)? (?:timeout|timed out|not received)|(?:did not"
        r"|didn't) (?:get|receive) .*heartbeat",
    ),
)

CRASHES = (
    Row("died", "traceback (most recent call last)"),
    Row("crash", "segmentation fault"),
    Row("crash", "memory access fault"),
    Row("crash", "hsa_status_error"),
    Row("died", "terminate called"),
    Row("died", "double free or corruption"),
    Row("died", "corrupted", r"corrupted (?:size vs|double-linked list|unsorted chunks)"),
    Row(
        "died",
        "(): ",
        r"(?:^|[\s\]:>|])(?:malloc|free|realloc|munmap_chunk|malloc_consolidate)\(\): ",
    ),
    Row("died", "stack smashing detected"),
    Row("died", "floating point exception"),
    Row("died", "illegal instruction", r"(?:^|[\]:>|\d]) *illegal instruction"),
    Row("died", "panicked at", r"thread '"),
    Row("died", "panic: "),
    Row("died", "backofflimitexceeded"),
    Row("died", "crashloopbackoff"),
    Row("died", "imagepullbackoff"),
    Row("died", "fatal python error"),
    Row("died", "core dumped"),
    Row("died", "childfailederror"),
    Row("crash", "cuda error"),
    Row("crash", "hip error"),
    Row("died", "internal assert failed"),
    Row("died", "error executing job"),
    Row(
        "died",
        "exit",
        r"exit(?:ed|s)? with (?:non-?zero |an? )?(?:exit |return |error )*"
        r"(?:code|status)[ :=]*-?(?!0\b)\d"
        r"|non-?zero (?:exit|return|status)|exitcode[ :]+-?(?!0\b)\d|exit status [1-9]"
        r"|exit[ _]code[ :=]+-?[1-9]"
        r"|return code ?= ?-?[1-9]",
    ),
    Row(
        "died",
        "signal",
        r"(?:signal|received) (?:6|7|8|9|11|sigsegv|sigabrt|sigbus|sigkill"
        r"|sigfpe)\b|sig(?:segv|abrt|bus|kill|fpe)\)"
        r"|caught signal",
    ),
    Row("died", "abort", r"\"status\": \"aborted\"|^\s*aborted|mpi_abort|aborted \(|sigabrt"),
    Row(
        "crash",
        "error",
        r"(?:^|[\s\]:>|(])(?:\w+\.)*\w{2,}(?:error|exception)(?:\(\w+\))?(?::|$)|^\w*"
        r"(?:error|exception)(?::|$)"
        r"|\w(?:error|exception): ",
    ),
    Row("crash", ".exc", r"(?:^|[\s\]:>|])(?:\w+\.)+(?:exc|exceptions)\.\w+(?::|$)"),
    Row("crash", "iteration", r"(?:^|[\s\]:>|])stop(?:async)?iteration(?::|$)"),
    Row("died", "systemexit", r"systemexit: (?!0\b|none)\S"),
    Row("died", "return value", r"termination \(return value -?[1-9]"),
    Row("crash", "exception ignored"),
    Row("died", "died from signal"),
    Row("died", "bad termination of one of your"),
    Row("died", "check failed:"),
    Row("died", "f tensorflow/", r"\d: f tensorflow/"),
    Row("died", "f external/", r"\d: f external/"),
    Row("died", "detected fatal error"),
    Row("died", "unhandled exception"),
    Row("died", "wandb: waiting", r"\(failed \d+\)"),
    Row("died", "container start failed"),
    Row(
        "died",
        "error",
        r"\[error\]|\berror -|- error\b|(?:^|\] )error[: ]|level=error|^fatal\b"
        r"|(?:srun|slurmstepd|mpirun|mpiexec|bash|docker): (?:fatal )?error\b",
    ),
    Row("died", "fatal", r"\bfatal(?: error)?:|\[fatal\]|- fatal\b"),
    Row("died", "critical", r"\[critical\]|- critical -|^critical[: ]"),
    Row("crash", "exception", r"(?:^|[\s\]:>|(])(?:\w+\.)*\w*exception(?::|$)"),
    Row(
        "died",
        "failed",
        r"\.(?:sh|py) failed|(?:job|step|task|worker|run|training) (?:\S+ )?failed\b" r"(?! to)",
    ),
    Row("died", ", line", r"\bfile \".*\", line \d+, in "),
    Row("died", "frame #"),
    Row("died", "exception raised from"),
    Row("died", "root cause (first observed failure)"),
    Row("died", "closing signal"),
    Row("stopped", "killing subprocess"),
    Row("killed", "kill", r"(?:^|[\]:>|)]) *killed\s*$|line \d+: +\d+ killed\b"),
)
