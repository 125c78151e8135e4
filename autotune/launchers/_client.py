"""Gangs behind an engine's client: an mpirun or srun process that stands for its supervisors.

    submit: gang.json -> client (own session, this host) -> supervisors (the nodes) -> ranks
    poll:   every part's exit record stands and the client is gone -> exited

The trial's folder has to be on a file system that all nodes share: descriptions, logs, the
cancel request and exit records travel by it. What a lost or deaf gang leaves on the nodes is
ended by a sweep: the engine runs ``supervisor.py --sweep TOKEN`` once on each of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from autotune.launchers import _gang, _records, host
from autotune.launchers._process import Processes, carriers, describe_process, same_boot
from autotune.trial import GangStatus, Handle

ESCALATION_MARGIN_S = 10.0
RECORD_LINGER_S = 10.0
CLIENT_LINGER_S = 30.0
SWEEP_BOUND_S = 60.0
LOG = "engine.log"


class ClientGangs:
    """What mpirun and srun have in common once their command is known."""

    def __init__(self) -> None:
        self.processes = Processes()
        self._clock = _gang.CancelClock(ESCALATION_MARGIN_S)
        self._done: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._sweeps: dict[str, tuple[subprocess.Popen[bytes], float]] = {}

    def start(self, argv: list[str], env: dict[str, str], trial_dir: Path, token: str) -> Handle:
        """Start the engine's client; its handle."""
        return self.processes.start(argv, {**env, **agent()}, trial_dir, token, LOG)

    def find(self, trial_dir: Path, token: str) -> Handle | None:
        """The client that was started for a token, or a handle without one if the nodes told."""
        found = self.processes.find(trial_dir, token)
        if found is None and _records.told_start(trial_dir, token):
            return {**Processes.handle(os.getpid(), trial_dir, token), "pid": 0, "start_time": 0}
        return found

    def poll(self, handle: Handle) -> GangStatus:
        """Exited with every record; lost when the client went without them, for good."""
        token, trial_dir = handle["token"], Path(handle["trial_dir"])
        alive = self.processes.alive(handle)
        records = _records.read_exits(trial_dir, token)
        started = _records.told_start(trial_dir, token) is not None
        now = time.monotonic()
        if records is not None:
            lingers = now - self._done.setdefault(token, now) < CLIENT_LINGER_S
            if not (alive and lingers):
                return _records.status_of(records)
        if alive:
            return GangStatus("running" if started else "pending", detail=last_line(trial_dir))
        if not started and (trial_dir / "cancel").exists():
            return GangStatus("exited", cancelled=True, detail="cancelled before it started")
        gone_s = now - self._gone.setdefault(token, now)
        if gone_s < RECORD_LINGER_S and started and same_boot(handle):
            return GangStatus("running", detail="waiting for exit records (shared file system)")
        return GangStatus("lost", detail=last_line(trial_dir) or "the engine's client vanished")

    def cancel(
        self, handle: Handle, grace_s: float, dump_stacks: bool, sweep: list[str] | None
    ) -> None:
        """Leave the request; from the grace and a margin on, end the client and sweep the nodes."""
        token = handle["token"]
        self._clock.asked_before(token)
        _gang.request_cancel(Path(handle["trial_dir"]), grace_s, dump_stacks)
        alive = self.processes.alive(handle)
        if alive and _records.told_start(Path(handle["trial_dir"]), token) is None:
            host.send_signal(handle["pid"], handle["start_time"], signal.SIGTERM)
        if alive and not self._clock.overdue(token, grace_s, dump_stacks):
            return
        complete = _records.read_exits(Path(handle["trial_dir"]), token)
        if alive or complete is None:
            if sweep and token not in self._sweeps:
                bound = time.monotonic() + SWEEP_BOUND_S
                self._sweeps[token] = (start_sweep(sweep, handle), bound)
            for pid, start_time in carriers(handle):
                host.send_signal(pid, start_time, signal.SIGKILL)

    def survivors(self, handle: Handle) -> list[str]:
        """What carries the token on this host, and nodes of which nothing good is known yet."""
        self.processes.alive(handle)
        left = [describe_process(pid) for pid, _ in carriers(handle)]
        sweep, bound = self._sweeps.get(handle["token"], (None, 0.0))
        if sweep is not None and sweep.poll() is None:
            if time.monotonic() >= bound:
                sweep.kill()
            left.append("nodes are being swept")
        return left


def agent() -> dict[str, str]:
    """The controller's ssh agent: the client needs it to reach nodes; trials never see it."""
    names = ("SSH_AUTH_SOCK", "SSH_AGENT_PID")
    return {name: os.environ[name] for name in names if name in os.environ}


def start_sweep(argv: list[str], handle: Handle) -> subprocess.Popen[bytes]:
    """Start the engine's sweep of the nodes; it does not carry the token itself."""
    with (Path(handle["trial_dir"]) / LOG).open("ab") as log:
        return subprocess.Popen(
            argv,
            env={**host.allowed_environment(), **agent()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def last_line(trial_dir: Path) -> str:
    """The last line that the engine's client said, for people; empty when it said nothing."""
    try:
        with (trial_dir / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip("-= ")), "")
