"""A process of ours that outlives us: a supervisor on this host, or an engine's client.

It is known by (boot id, pid, start time); whatever else got its pid is a stranger. What the
gang runs on this host besides is known by the token in its environment.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from autotune.errors import InfrastructureError
from autotune.launchers import host, members
from autotune.trial import Handle

CLIENT_MARK = "AUTOTUNE_SUPERVISOR"


class Processes:
    """Starts detached processes and speaks of them by handle, from any controller process."""

    def __init__(self) -> None:
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(
        self, argv: list[str], env: Mapping[str, str], trial_dir: Path, token: str, log: str
    ) -> Handle:
        """Start a marked process in a session of its own, its output appended to a file.

        InfrastructureError when the program cannot be executed.
        """
        try:
            output = os.open(trial_dir / log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                child = subprocess.Popen(
                    argv,
                    env={**env, CLIENT_MARK: token},
                    cwd=trial_dir,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            finally:
                os.close(output)
        except OSError as error:
            what = error.filename or argv[0]
            raise InfrastructureError(f"cannot start {what}: {error.strerror}") from error
        self._children[child.pid] = child
        return self.handle(child.pid, trial_dir, token)

    @staticmethod
    def handle(pid: int, trial_dir: Path, token: str) -> Handle:
        """The handle of a live process on this host."""
        return {
            "pid": pid,
            "start_time": (host.process_stat(pid) or ("", 0, 0))[2],
            "boot_id": host.boot_id(),
            "host": socket.gethostname(),
            "token": token,
            "trial_dir": str(trial_dir.absolute()),
            "started_at": time.time(),
        }

    def find(self, trial_dir: Path, token: str) -> Handle | None:
        """The process that was started for this token, by the mark in its environment."""
        for pid, _ in host.marked(f"{CLIENT_MARK}={token}"):
            return self.handle(pid, trial_dir, token)
        return None

    def alive(self, handle: Handle) -> bool:
        """Whether it still runs; reaps it where it is our own child."""
        child = self._children.get(handle["pid"])
        if child is not None and child.poll() is not None:
            del self._children[handle["pid"]]
        return same_boot(handle) and host.lives(handle["pid"], handle["start_time"])


def same_boot(handle: Handle) -> bool:
    """Whether the handle's pids still mean something here."""
    return bool(handle["boot_id"] == host.boot_id())


def carriers(handle: Handle) -> list[tuple[int, int]]:
    """(pid, start time) of what lives of the gang on this host, ourselves apart."""
    if not same_boot(handle):
        return []
    found = members.carriers(handle["token"])
    return [(pid, start_time) for pid, start_time in found if pid != os.getpid()]


def describe_process(pid: int) -> str:
    """A process for a person to recognise: pid and the first words of its command."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
    except OSError:
        command = b""
    return f"{pid} {command[:120].decode(errors='replace')}".strip()
