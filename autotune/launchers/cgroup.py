"""A control group for each part of a gang: the kernel's own list of what belongs to it.

A process that double-forks and clears its environment carries no token, and once its supervisor
was killed it has no ancestor of ours either; it can't leave its control group. Made where cgroup
v2 is mounted and the group we run in may be divided (as root, or where systemd delegates it);
elsewhere ``create`` gives "", which the part's ``supervisor.N.json`` tells, and token and
ancestry must do. One of the files that run on nodes beside ``supervisor.py``: see ``host.py``.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from autotune.launchers.host import process_stat
else:
    from host import process_stat

PREFIX = "autotune-"
PROCESSES = "cgroup.procs"


def root() -> str:
    """Where cgroup v2 is mounted; empty where it is not."""
    try:
        with open("/proc/self/mounts") as file:
            rows = [line.split() for line in file]
    except OSError:
        return ""
    return next((row[1] for row in rows if row[2] == "cgroup2"), "")


def create(token: str, index: int) -> str:
    """A new group below our own for part ``index`` of a gang; "" where that is not allowed.

    Not in a Slurm step: Slurm ends what is in its own groups, and not what is in groups below.
    """
    try:
        with open("/proc/self/cgroup") as file:
            own = next((line[3:].strip() for line in file if line.startswith("0::")), None)
        top = root()
        if not top or own is None or "slurm" in own:
            return ""
        path = f"{top}{own.rstrip('/')}/{PREFIX}{token}.{index}"
        os.mkdir(path)
        if os.access(os.path.join(path, PROCESSES), os.W_OK):
            return path
        os.rmdir(path)
    except OSError:
        pass
    return ""


def join(path: str) -> None:
    """Move this process into a group; it stays where it is if the kernel refuses."""
    try:
        with open(os.path.join(path, PROCESSES), "w") as file:
            file.write("0")
    except OSError:
        pass


def find(token: str) -> list[str]:
    """Every group of a gang's parts on this host, whoever made it and wherever below the root."""
    found = []
    for folder, names, _ in os.walk(root()):
        ours = [name for name in names if name.startswith(f"{PREFIX}{token}.")]
        found += [os.path.join(folder, name) for name in ours]
        names[:] = [name for name in names if not name.startswith(PREFIX)]
    return found


def processes(path: str) -> list[tuple[int, int]]:
    """(pid, start time) of all that lives in a group and in groups below it."""
    found = []
    for folder, _, _ in os.walk(path):
        try:
            with open(os.path.join(folder, PROCESSES)) as file:
                pids = [int(line) for line in file]
        except OSError:
            continue
        for pid in pids:
            stat = process_stat(pid)
            if stat and stat[0] not in "ZX":
                found.append((pid, stat[2]))
    return found


def kill(path: str) -> None:
    """KILL all of a group at once, so that nothing can fork faster than it is found."""
    try:
        with open(os.path.join(path, "cgroup.kill"), "w") as file:
            file.write("1")
    except OSError:
        pass  # older than Linux 5.14: its processes are killed one by one


def remove(path: str) -> None:
    """Remove a group that nothing lives in any more, and those below it."""
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            pass
