"""Gangs on this machine: one supervisor process that outlives the controller.

    submit: gang.json -> supervisor (own session) -> ranks
    poll:   exit.0.json stands and the supervisor is gone -> exited; neither -> lost

Options: those of every launcher (``_gang.GangOptions``) and ``gpus``, the devices that
parallel gangs share out among themselves: a list of CUDA indices or UUIDs (default: those in
CUDA_VISIBLE_DEVICES, else all of this host's). A job that wants more than the default has, one
on the CPU say, finds CUDA_VISIBLE_DEVICES as it is.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from autotune.errors import BadInput, InfrastructureError
from autotune.launchers import _gang, _records, host
from autotune.launchers._process import Processes, carriers, describe_process, same_boot
from autotune.launchers.nvml import read_gpus
from autotune.trial import GangStatus, Handle, Job

ESCALATION_MARGIN_S = 5.0
EXIT_LINGER_S = 5.0


class Local:
    """The launcher ``local``."""

    name = "local"
    names_processes = True

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = _gang.GangOptions.take(options, self.name)
        self.gpus = _gang.words(options.pop("gpus", ()), f"{self.name}.gpus")
        _gang.refuse_unknown(options, ("gpus",), self.name)
        self._processes = Processes()
        self._held: dict[str, tuple[str, ...]] = {}
        self._clock = _gang.CancelClock(ESCALATION_MARGIN_S)

    def submit(self, job: Job, trial_dir: Path, token: str) -> Handle:
        """Start the gang's supervisor and return its handle; see ``Launcher.submit``."""
        if job.nodes > 1 and job.per != "job":
            raise BadInput(
                f"the job wants {job.nodes} nodes, launcher 'local' has one. Use --launcher mpi, "
                "slurm or ray, or set cluster.nodes=1."
            )
        _gang.check_program(job, self.options, trial_dir)
        gpus = self._free_gpus(job)
        plan = _gang.GangPlan(1, "node", "127.0.0.1", host.free_port(), gpus)
        env = _gang.prepare(job, trial_dir, token, self.options, plan)
        argv = _gang.supervisor_argv(self.options, trial_dir, "0")
        started = self._processes.start(argv, env, trial_dir, token, "supervisor.log")
        self._held[token] = gpus
        return {"launcher": self.name, "gpus": list(gpus), **started}

    def poll(self, handle: Handle) -> GangStatus:
        """The gang's status; see ``Launcher.poll``."""
        alive = self._processes.alive(handle)
        records = _records.read_exits(Path(handle["trial_dir"]), handle["token"])
        if records is not None:
            lingers = time.monotonic() - float(records[0]["ended_s"]) < EXIT_LINGER_S
            if not (alive and lingers):
                self._held.pop(handle["token"], None)
                return _records.status_of(records)
        if alive:
            self._held[handle["token"]] = tuple(handle["gpus"])
            return GangStatus("running", nodes=(handle["host"],))
        self._held.pop(handle["token"], None)
        if same_boot(handle):
            detail = f"supervisor {handle['pid']} vanished without an exit record"
        else:
            detail = f"{handle['host']} was restarted, or the study moved to another host"
        return GangStatus("lost", detail=detail, nodes=(handle["host"],))

    def cancel(self, handle: Handle, grace_s: float, dump_stacks: bool = False) -> None:
        """Ask the gang to end, escalating on later calls; see ``Launcher.cancel``."""
        token = handle["token"]
        first = not self._clock.asked_before(token)
        overdue = self._clock.overdue(token, grace_s, dump_stacks)
        if self._processes.alive(handle) and not overdue:
            trial_dir = Path(handle["trial_dir"])
            if first:
                _gang.request_cancel(trial_dir, grace_s, dump_stacks)
            listens = _records.told_start(trial_dir, token) is not None
            if first and listens:  # one that does not yet will find the request
                host.send_signal(handle["pid"], handle["start_time"], signal.SIGTERM)
            return
        below = host.descendants(handle["pid"]) if self._processes.alive(handle) else []
        for pid, start_time in {*below, *carriers(handle)}:
            host.send_signal(pid, start_time, signal.SIGTERM if first else signal.SIGKILL)

    def survivors(self, handle: Handle) -> list[str]:
        """Processes that still carry the gang's token, supervisor included."""
        self._processes.alive(handle)
        return [describe_process(pid) for pid, _ in carriers(handle)]

    def find(self, trial_dir: Path, token: str) -> Handle | None:
        """The handle of a gang that was started for this token, from its records or /proc."""
        spec = host.read_object(str(trial_dir / "gang.json")) or {}
        common = {"launcher": self.name, "gpus": list(spec.get("gpus", ()))}
        told = _records.told_start(trial_dir, token)
        if told is not None:
            identity = {name: told[name] for name in ("start_time", "host", "boot_id")}
            return {**common, **Processes.handle(told["pid"], trial_dir, token), **identity}
        found = self._processes.find(trial_dir, token)
        return {**common, **found} if found else None

    def room(self, job: Job) -> int:
        """Gangs that this machine's GPUs, or those of option ``gpus``, serve at once."""
        there = len(self.gpus or visible_gpus())
        return there // job.gpus_per_node if job.gpus_per_node else 1

    def without_gpus(self) -> bool:
        """Whether this machine has none; see ``launchers.Launcher``."""
        return not read_gpus()

    def _free_gpus(self, job: Job) -> tuple[str, ...]:
        wanted = job.gpus_per_node
        if not wanted:
            return ()
        there = self.gpus or visible_gpus()
        if wanted > len(there):
            if not self.gpus:
                return ()
            raise BadInput(
                f"the job wants {wanted} GPUs a node, launcher option gpus lists "
                f"{len(there)}: {', '.join(there)}."
            )
        busy = {gpu for held in self._held.values() for gpu in held}
        free = [gpu for gpu in there if gpu not in busy]
        if len(free) < wanted:
            raise InfrastructureError(
                f"{wanted} GPUs wanted, {len(free)} of {len(there)} are free: "
                "other gangs hold the rest. Lower --parallel."
            )
        return tuple(free[:wanted])


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use: CUDA_VISIBLE_DEVICES, else all; empty for none."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return tuple(word.strip() for word in told.split(",") if word.strip() not in ("", "-1"))
    return tuple(str(gpu.index) for gpu in read_gpus())


LAUNCHER = Local
