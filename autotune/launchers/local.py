"""Gangs on this machine: one supervisor process that outlives the controller.

    submit: gang.json -> supervisor (own session) -> ranks
    poll:   exit.0.json stands and the supervisor is gone -> exited; neither -> lost

A gang is known by (boot id, pid, start time) of its supervisor and by the token in the
environment of every process; anything else with the same pid is a stranger. Options: those of
every launcher (``_gang.GangOptions``) and ``gpus``, the devices that parallel gangs share out
among themselves (a list of CUDA indices or UUIDs; without it CUDA_VISIBLE_DEVICES is left).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from autotune.errors import BadInput, InfrastructureError
from autotune.launchers import _gang, supervisor
from autotune.trial import GangStatus, Handle, Job

ESCALATION_MARGIN_S = 5.0
EXIT_LINGER_S = 5.0


class Local:
    """The launcher ``local``."""

    name = "local"

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = _gang.GangOptions.take(options, self.name)
        self.gpus = _gang.words(options.pop("gpus", ()), f"{self.name}.gpus")
        _gang.refuse_unknown(options, ("gpus",), self.name)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._held: dict[str, tuple[str, ...]] = {}
        self._asked: dict[str, float] = {}

    def submit(self, job: Job, trial_dir: Path, token: str) -> Handle:
        """Start the gang's supervisor and return its handle; see ``Launcher.submit``."""
        if job.nodes > 1 and job.per != "job":
            raise BadInput(
                f"the job wants {job.nodes} nodes, launcher 'local' has one. Use --launcher mpi, "
                "slurm or ray, or set cluster.nodes=1."
            )
        _gang.check_program(job, self.options, trial_dir)
        gpus = self._take_gpus(job, token)
        plan = _gang.GangPlan(1, "node", "127.0.0.1", supervisor.free_port(), gpus)
        env = _gang.prepare(job, trial_dir, token, self.options, plan)
        env["AUTOTUNE_SUPERVISOR"] = token
        argv = _gang.supervisor_argv(self.options, trial_dir, "0", _gang.SUPERVISOR)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            output = os.open(trial_dir / "supervisor.log", flags, 0o600)
            try:
                child = subprocess.Popen(
                    argv,
                    env=env,
                    cwd=trial_dir,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            finally:
                os.close(output)
        except OSError as error:
            self._held.pop(token, None)
            raise InfrastructureError(f"cannot start {argv[0]}: {error.strerror}") from error
        self._children[child.pid] = child
        return self._handle(child.pid, trial_dir, token, gpus)

    def poll(self, handle: Handle) -> GangStatus:
        """The gang's status; see ``Launcher.poll``."""
        self._reap(handle["pid"])
        alive = self._alive(handle)
        records = _gang.read_exits(Path(handle["trial_dir"]), handle["token"], 1)
        if records is not None:
            lingers = time.monotonic() - float(records[0]["ended_s"]) < EXIT_LINGER_S
            if not (alive and lingers):
                self._held.pop(handle["token"], None)
                return _gang.status_of(records)
        if alive:
            if handle.get("gpus"):
                self._held[handle["token"]] = tuple(handle["gpus"])
            return GangStatus("running", nodes=(handle["host"],))
        self._held.pop(handle["token"], None)
        if handle["boot_id"] != supervisor.boot_id():
            detail = f"{handle['host']} was restarted, or the study moved to another host"
        else:
            detail = f"supervisor {handle['pid']} vanished without an exit record"
        return GangStatus("lost", detail=detail, nodes=(handle["host"],))

    def cancel(self, handle: Handle, grace_s: float, dump_stacks: bool = False) -> None:
        """Ask the gang to end, escalating on later calls; see ``Launcher.cancel``."""
        self._reap(handle["pid"])
        if handle["boot_id"] != supervisor.boot_id():
            return
        now = time.monotonic()
        first = handle["token"] not in self._asked
        asked = self._asked.setdefault(handle["token"], now)
        bound = asked + grace_s + (supervisor.DUMP_BOUND_S if dump_stacks else 0.0)
        if self._alive(handle) and now < bound + ESCALATION_MARGIN_S:
            if first:
                _gang.request_cancel(Path(handle["trial_dir"]), grace_s, dump_stacks)
                supervisor.send_signal(handle["pid"], handle["start_time"], signal.SIGTERM)
            return
        for pid, start_time in self._carriers(handle):
            supervisor.send_signal(pid, start_time, signal.SIGTERM if first else signal.SIGKILL)

    def survivors(self, handle: Handle) -> list[str]:
        """Processes that still carry the gang's token, supervisor included."""
        self._reap(handle["pid"])
        if handle["boot_id"] != supervisor.boot_id():
            return []
        return [describe_process(pid) for pid, _ in self._carriers(handle)]

    def find(self, trial_dir: Path, token: str) -> Handle | None:
        """The handle of a gang that was started for this token, from its records or /proc."""
        told = supervisor.read_object(str(trial_dir / "supervisor.0.json"))
        if told and told.get("token") == token:
            spec = supervisor.read_object(str(trial_dir / "gang.json")) or {}
            gpus = tuple(spec.get("gpus", ()))
            return self._handle(told["pid"], trial_dir, token, gpus) | {
                name: told[name] for name in ("start_time", "host", "boot_id")
            }
        for pid, _ in supervisor.marked(f"AUTOTUNE_SUPERVISOR={token}"):
            return self._handle(pid, trial_dir, token, ())
        return None

    def _handle(self, pid: int, trial_dir: Path, token: str, gpus: tuple[str, ...]) -> Handle:
        return {
            "launcher": self.name,
            "pid": pid,
            "start_time": (supervisor.process_stat(pid) or ("", 0, 0))[2],
            "boot_id": supervisor.boot_id(),
            "host": socket.gethostname(),
            "token": token,
            "trial_dir": str(trial_dir.absolute()),
            "gpus": list(gpus),
            "started_at": time.time(),
        }

    def _alive(self, handle: Handle) -> bool:
        same_boot = handle["boot_id"] == supervisor.boot_id()
        return same_boot and supervisor.lives(handle["pid"], handle["start_time"])

    def _carriers(self, handle: Handle) -> list[tuple[int, int]]:
        found = supervisor.marked(f"AUTOTUNE_TOKEN={handle['token']}")
        return [(pid, start_time) for pid, start_time in found if pid != os.getpid()]

    def _reap(self, pid: int) -> None:
        child = self._children.get(pid)
        if child is not None and child.poll() is not None:
            del self._children[pid]

    def _take_gpus(self, job: Job, token: str) -> tuple[str, ...]:
        if not self.gpus or not job.gpus_per_node:
            return ()
        wanted = job.gpus_per_node
        if wanted > len(self.gpus):
            raise BadInput(
                f"the job wants {wanted} GPUs a node, launcher option gpus lists "
                f"{len(self.gpus)}: {', '.join(self.gpus)}."
            )
        busy = {gpu for held in self._held.values() for gpu in held}
        free = [gpu for gpu in self.gpus if gpu not in busy]
        if len(free) < wanted:
            raise InfrastructureError(
                f"{wanted} GPUs wanted, {len(free)} of {len(self.gpus)} are free: "
                "other gangs hold the rest. Lower --parallel."
            )
        self._held[token] = tuple(free[:wanted])
        return self._held[token]


def describe_process(pid: int) -> str:
    """A process for a person to recognise: pid and the first words of its command."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
    except OSError:
        command = b""
    return f"{pid} {command[:120].decode(errors='replace')}".strip()


LAUNCHER = Local
