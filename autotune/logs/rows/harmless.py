"""What sounds like a failure and is none: hints, skipped steps, chatter of healthy starts."""

from __future__ import annotations

from autotune.logs.failures import Row

HARMLESS = (
    Row(None, "oom", r"(?:avoid|prevent|reduce|against|risk|help|hint|tip|debug)[^.]{0,60}\boom"),
    Row(
        None,
        "memory",
        r"\b(?:avoid\w*|prevent\w*|(?:may|might|can|could|will|likely to"
        r"|would) (?:\w+ )?(?:run|go|get|be|lead"
        r"|result|cause|trigger)|if you|in case|when you|risk\w*|leads? to"
        r"|encounter|handle)\b[^.:]{0,80}"
        r"(?:out of memory|out-of-memory|running out)",
    ),
    Row(
        None,
        "memory",
        r"^\s*(?:#|//|\$|>>>|if\b|except\b|raise\b)[^:]*(?:out of memory" r"|outofmemory)",
    ),
    Row(None, "nan iterations"),
    Row(None, "+ ", r"^\++ \w"),
    Row(None, ".cpp:", r"^(?:\[\w+\]: ?)?\[[wi]\d* ?[\d:. ]*\S+\.cpp:"),
    Row(None, "processgroupnccl", r"initialization|environments|options|thread started"),
    Row(None, "couldn't chdir"),
    Row(None, "ld.so"),
    Row(None, "error displaying widget"),
    Row(None, "not a git repository"),
    Row(None, "xdg_runtime_dir"),
    Row(None, "tmpdir"),
    Row(None, "pip's dependency resolver"),
    Row(
        None,
        "overflow",
        r"skipping step|skip(?:ping|ped)|reducing|no grad overflow|gradient overflow",
    ),
    Row(None, "signal handler"),
    Row(
        None,
        "nccl",
        r"process group has not been destroyed|nccl info|^\s*(?:\S+: ?)?nccl version"
        r"|using nccl",
    ),
)
