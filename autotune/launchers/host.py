"""The host as a gang's keepers see it: processes by identity, the environment, small files.

A process is (pid, start time), found by ancestry or by a mark in its environment; never by its
name. One of the files that run on nodes beside ``supervisor.py`` under a bare ``python3 -I -S``
(3.8 or later), so: standard library only, and few imports, since they are a trial's overhead.
"""

from __future__ import annotations

import json
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALLOWED_NAMES = frozenset(
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR TEMP TERM HOSTNAME PWD "
    "LD_LIBRARY_PATH LD_PRELOAD LIBRARY_PATH CPATH PYTHONPATH PYTHONUNBUFFERED PYTHONHASHSEED "
    "VIRTUAL_ENV CC CXX MAX_JOBS MODULEPATH LOADEDMODULES XDG_CACHE_HOME XDG_RUNTIME_DIR "
    "http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY "
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE KRB5CCNAME".split()
)
ALLOWED_PREFIXES = tuple(
    "LC_ CONDA_ CUDA_ NVIDIA_ NCCL_ NVSHMEM_ OMP_ MKL_ OPENBLAS_ KMP_ GOMP_ TORCH PYTORCH_ "
    "TRITON_ GLOO_ UCX_ FI_ OMPI_ OPAL_ ORTE_ PMIX_ PMI_ SLURM_ HF_ TRANSFORMERS_ DS_ DEEPSPEED_ "
    "MEGATRON_ NVTE_ NEMO_ ROCR_ HIP_ HSA_ RCCL_ XLA_ APPTAINER_ SINGULARITY_ ENROOT_ PYXIS_ "
    "IBV_ RDMAV_".split()
)
SECRET_LENGTH = 8
SECRET_PARTS = ("TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL")


def looks_secret(name: str) -> bool:
    """Whether a variable's name says that its value must never be written down."""
    return any(part in name.upper() for part in SECRET_PARTS)


def secret_values(env: dict[str, str]) -> list[bytes]:
    """Values that must not be written down, longest first; short ones would blot out words."""
    values = {
        os.fsencode(value)
        for name, value in env.items()
        if looks_secret(name) and not name.startswith("AUTOTUNE_") and len(value) >= SECRET_LENGTH
    }
    return sorted(values, key=len, reverse=True)


def allowed_environment(names: frozenset[str] | set[str] = frozenset()) -> dict[str, str]:
    """This process's environment as a trial may see it: an allow-list, and ``names`` asked for."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in names
        or name in ALLOWED_NAMES
        or (name.startswith(ALLOWED_PREFIXES) and not looks_secret(name))
    }


def process_stat(pid: int) -> tuple[str, int, int] | None:
    """(state letter, parent pid, start time in clock ticks since boot); None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return fields[0].decode(), int(fields[1]), int(fields[19])


def lives(pid: int, start_time: int) -> bool:
    """Whether this very process still runs: a zombie, or another with its pid, does not count."""
    stat = process_stat(pid)
    return stat is not None and stat[2] == start_time and stat[0] not in "ZX"


def all_pids() -> list[int]:
    """Every process of this host that we may see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def marked(mark: str) -> list[tuple[int, int]]:
    """(pid, start time) of live processes whose environment has the entry ``mark`` (NAME=VALUE)."""
    found = []
    wanted = b"\0" + mark.encode() + b"\0"
    for pid in all_pids():
        stat = process_stat(pid)
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = b"\0" + file.read() + b"\0"
        except OSError:
            continue
        if stat and stat[0] not in "ZX" and wanted in environment:
            found.append((pid, stat[2]))
    return found


def descendants(root: int) -> list[tuple[int, int]]:
    """(pid, start time) of all live processes below ``root``."""
    stats = {pid: stat for pid in all_pids() for stat in [process_stat(pid)] if stat}
    children: dict[int, list[int]] = {}
    for pid, (_, parent, _) in stats.items():
        children.setdefault(parent, []).append(pid)
    found, queue = [], [root]
    while queue:
        for pid in children.get(queue.pop(), ()):
            queue.append(pid)
            if stats[pid][0] not in "ZX":
                found.append((pid, stats[pid][2]))
    return found


def send_signal(pid: int, start_time: int, signum: int) -> bool:
    """Signal this very process, never a stranger that got its pid; False when it is gone."""
    try:
        descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
    except OSError:
        descriptor = -1
    try:
        if not lives(pid, start_time):
            return False
        if descriptor >= 0:
            signal.pidfd_send_signal(descriptor, signum)
        else:
            os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return True


def boot_id() -> str:
    """Names this boot of the host: a pid means nothing after a reboot."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def machine() -> dict[str, Any]:
    """What makes figures of one machine unlike another's: processors, memory, kernel, driver."""
    uname = os.uname()
    found: dict[str, Any] = {"system": f"{uname.sysname} {uname.release} {uname.machine}"}
    found["cpus"] = len(os.sched_getaffinity(0))
    found["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    found["cpu"] = _line("/proc/cpuinfo", "model name").partition(":")[2].strip()
    version = _line("/proc/driver/nvidia/version", "NVRM").split("  ")
    if len(version) > 1:
        found["nvidia_driver"] = version[1].strip()
    return found


def _line(path: str, start: str) -> str:
    try:
        with open(path) as file:
            return next((line for line in file if line.startswith(start)), "")
    except OSError:
        return ""


def prctl(option: int, value: int) -> None:
    """Linux prctl; does nothing where there is none."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def oom_kills() -> int:
    """How often the kernel's memory killer struck in this process's cgroup; -1 when not told."""
    version2, version1 = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"
    try:
        with open("/proc/self/cgroup") as file:
            rows = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return -1
    candidates = []
    for _, controllers, path in rows:
        if "memory" in controllers.split(","):
            candidates += [
                version1 + path + "/memory.oom_control",
                version1 + "/memory.oom_control",
            ]
        elif not controllers:
            candidates += [version2 + path + "/memory.events", version2 + "/memory.events"]
    for name in candidates:
        try:
            with open(name) as file:
                counters = dict(line.split()[:2] for line in file)
            return int(counters["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return -1


def write_whole(path: str, value: dict[str, Any], durable: bool = True) -> None:
    """Write JSON so that a reader sees all of it or none; ``durable`` survives a power cut."""
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, sort_keys=True)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.replace(temporary, path)


def read_object(path: str) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is none, or half of one."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def free_port() -> int:
    """A TCP port nobody listens on here now, below the range of outgoing connections."""
    import socket

    for attempt in range(200):
        port = 10000 + (int.from_bytes(os.urandom(4), "big") + attempt) % 22000
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("", port))
            except OSError:
                continue
            return port
    raise OSError("no free TCP port between 10000 and 32000")


def short_name(name: str) -> str:
    """A host's name without its domain; an IPv4 address whole."""
    return name if name.replace(".", "").isdigit() else name.partition(".")[0]


def addresses() -> set[str]:
    """The IPv4 addresses of this host's interfaces, but for those that every host has."""
    found, address = set(), ""
    try:
        with open("/proc/net/fib_trie") as table:
            for words in map(str.split, table):
                if words[:1] == ["|--"]:
                    address = words[1]
                elif words == ["/32", "host", "LOCAL"] and not address.startswith("127."):
                    found.add(address)
    except OSError:
        pass
    return found


def own_address() -> str:
    """An address of this host that other nodes can reach: that of the default route."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # documentation range; nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
