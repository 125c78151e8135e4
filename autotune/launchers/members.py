"""Who belongs to a gang on this host, and how all of it is ended: by identity, never by name.

Found by ancestry (the supervisor is the subreaper of what it starts, so an orphan's parent is
always one of ours), by the mark in the environment, and by the control group, where there is
one. One of the files that run on nodes beside ``supervisor.py``: see ``host.py``.
"""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from autotune.launchers import cgroup
    from autotune.launchers.host import descendants, marked, send_signal
else:
    import cgroup
    from host import descendants, marked, send_signal
if TYPE_CHECKING:
    from autotune.launchers.rank import Rank

KILL_BOUND_S = 10.0
DUMP_BOUND_S = 10.0
MOST_DUMPS = 16


class Members:
    """All that lives of one part of a gang, this process (its supervisor) apart."""

    def __init__(self, token: str, index: int) -> None:
        self.mark = f"{token}:{index}"
        self.group = cgroup.create(token, index)
        self.dumps: dict[int, float] = {}

    def alive(self) -> list[tuple[int, int]]:
        """(pid, start time) of every member."""
        own = os.getpid()
        found = {*descendants(own), *marked(f"AUTOTUNE_PART={self.mark}")}
        if self.group:
            found.update(cgroup.processes(self.group))
        return [(pid, start) for pid, start in sorted(found) if pid != own]

    def send(self, signum: int) -> None:
        """Signal every member."""
        for pid, start_time in self.alive():
            send_signal(pid, start_time, signum)
        if self.group and signum == signal.SIGKILL:
            cgroup.kill(self.group)

    def dump_stacks(self, program: str | None, folder: str) -> None:
        """Start py-spy on each Python process of the part, where it is there; 16 at most."""
        if not program or not os.access(program, os.X_OK):
            return
        for pid, _ in self.alive()[:MOST_DUMPS]:
            try:
                if "python" not in os.path.basename(os.readlink(f"/proc/{pid}/exe")):
                    continue
            except OSError:
                continue
            path = os.path.join(folder, f"stacks.{pid}.txt")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            actions = [(os.POSIX_SPAWN_OPEN, fd, path, flags, 0o600) for fd in (1, 2)]
            argv = [program, "dump", "--pid", str(pid)]
            dump = os.posix_spawn(program, argv, dict(os.environ), file_actions=actions)
            self.dumps[dump] = time.monotonic() + DUMP_BOUND_S

    def being_dumped(self) -> bool:
        """Whether a stack dump still runs within its bound."""
        return any(time.monotonic() < bound for bound in self.dumps.values())

    def close(self) -> None:
        """Let go of the control group, once nobody lives in it."""
        if self.group:
            cgroup.remove(self.group)


def end_containers(engine: list[str], folder: str, ranks: list[Rank]) -> None:
    """Kill and remove containers by the ids their starter wrote: they descend from others."""
    for rank in ranks:
        try:
            with open(os.path.join(folder, f"rank{rank.rank}.cid")) as file:
                container = file.read().strip()
            argv = [*engine, "rm", "--force", container]
            os.waitpid(os.posix_spawnp(engine[0], argv, dict(os.environ)), 0)
        except OSError:
            continue


def carriers(token: str) -> list[tuple[int, int]]:
    """(pid, start time) of all that lives of a gang on this host, supervisors included.

    Control groups that a killed supervisor left behind are removed once nothing lives in them.
    """
    groups = cgroup.find(token)
    found = set(marked(f"AUTOTUNE_TOKEN={token}"))
    for group in groups:
        found.update(cgroup.processes(group))
    if not found:
        for group in groups:
            cgroup.remove(group)
    return sorted(found)


def sweep(token: str) -> int:
    """Kill all that lives of a gang on this host; 0 when nothing is left."""
    bound = time.monotonic() + KILL_BOUND_S
    while True:
        found = [entry for entry in carriers(token) if entry[0] != os.getpid()]
        if not found or time.monotonic() > bound:
            break
        for pid, start_time in found:
            send_signal(pid, start_time, signal.SIGKILL)
        time.sleep(0.05)
    for pid, _ in found:
        print(f"autotune: {os.uname().nodename}: process {pid} cannot be killed", flush=True)
    return 1 if found else 0
