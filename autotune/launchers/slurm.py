"""Gangs under Slurm: one sbatch job a trial, or one srun step inside an allocation.

Either way srun starts one supervisor a node; the supervisors end the gang at the trial's own
time limit, inside the job's. Inside an allocation (SLURM_JOB_ID is set, or ``allocation`` is
given) trials become steps of it, and none starts that its remaining time cannot finish. Outside
of one, trials that start at once are one job array (``_slurm_array``). Works without accounting:
states come from scontrol. Tried with Slurm 22.05.

Options besides those of every launcher (``_gang.GangOptions``):
    mode          auto (default: step inside an allocation, else batch), batch or step
    allocation    the job id to run steps in (default: SLURM_JOB_ID)
    partition, account, qos, nodelist, exclude, reservation    as sbatch's
    exclusive     whole nodes (default true: a neighbour would spoil the measurement)
    gres          the name of the GPU resource (default: gpu; empty: ask for none)
    sbatch_args, srun_args    more arguments, such as ["--container-image=..."] for pyxis
The trial's folder has to be shared by all nodes.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.errors import AutotuneError, BadInput, PlaceSpent
from autotune.launchers import Request, _gang, _records, _slurm_array, host
from autotune.launchers import _slurm_commands as commands
from autotune.launchers import _slurm_limits as limits
from autotune.launchers._client import LOG, ClientGangs, last_line
from autotune.launchers._process import carriers, describe_process
from autotune.trial import GangStatus, Handle, Job

PLACEMENT = ("partition", "account", "qos", "nodelist", "exclude", "reservation")
OTHERS = ("mode", "allocation", "exclusive", "gres", "sbatch_args", "srun_args")
LIMIT_MARGIN_S = 120.0
ESCALATION_MARGIN_S = 10.0
RECORD_LINGER_S = 10.0
ASK_PERIOD_S = 1.0
WAITING = frozenset({"PENDING", "CONFIGURING", "RESV_DEL_HOLD", "REQUEUE_HOLD", "SPECIAL_EXIT"})
ACTIVE = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"})
LOST = {
    "NODE_FAIL": "a node failed",
    "BOOT_FAIL": "a node did not boot",
    "PREEMPTED": "preempted by another job",
    "REVOKED": "revoked",
    "REQUEUED": "requeued by the scheduler",
}


class Slurm:
    """The launcher ``slurm``."""

    name = "slurm"

    def __init__(self, options: dict[str, Any]) -> None:
        options.setdefault("node_python", "python3")
        self.options = _gang.GangOptions.take(options, self.name)
        self.excluded = str(options.pop("exclude", "") or "")
        self.avoided: tuple[str, ...] = ()
        self.placement = [
            f"--{name}={options.pop(name)}" for name in PLACEMENT if options.get(name)
        ]
        self.mode = str(options.pop("mode", "auto"))
        self.allocation = str(options.pop("allocation", os.environ.get("SLURM_JOB_ID", "")))
        self.exclusive = bool(options.pop("exclusive", True))
        self.gres = str(options.pop("gres", "gpu") or "")
        self.sbatch_args = _gang.words(options.pop("sbatch_args", ()), "slurm.sbatch_args")
        self.srun_args = _gang.words(options.pop("srun_args", ()), "slurm.srun_args")
        options = {name: value for name, value in options.items() if name not in PLACEMENT}
        _gang.refuse_unknown(options, PLACEMENT + OTHERS, self.name)
        if self.mode not in ("auto", "batch", "step"):
            raise BadInput.unknown("mode", self.mode, ("auto", "batch", "step"), self.name)
        if self.mode == "step" and not self.allocation:
            raise BadInput("slurm: mode step needs an allocation: salloc, or option allocation")
        if self.mode == "auto":
            self.mode = "step" if self.allocation else "batch"
        self._steps = ClientGangs()
        self._clock = _gang.CancelClock(ESCALATION_MARGIN_S)
        self._stopped: dict[str, float] = {}
        self._seen: dict[str, tuple[float, Mapping[str, str]]] = {}
        self._ended: dict[str, float] = {}

    def submit(self, job: Job, trial_dir: Path, token: str) -> Handle:
        """Queue or start the gang and return its handle; see ``Launcher.submit``."""
        if self.mode == "step":
            self._check_allocation(job)
        env, command = self._prepare(job, trial_dir, token)
        if self.mode == "step":
            handle = self._steps.start(command, env, trial_dir, token)
            return {**self._step(), **handle}
        folder = trial_dir.absolute()
        argv = [*self._sbatch(job, job_name(token)), f"--output={folder / LOG}"]
        argv += [f"--chdir={folder}", str(_slurm_array.write_script(folder, token, command))]
        return self._batch_handle(commands.sbatch(argv, env), trial_dir, token)

    def submit_together(self, requests: Sequence[Request]) -> list[Handle | AutotuneError]:
        """Start several gangs, those of one shape as one array; see ``launchers.submit_all``.

        A Slurm that takes no arrays gets them one by one.
        """
        results: dict[str, Handle | AutotuneError] = {}
        groups = _slurm_array.alike(requests) if self.mode == "batch" else []
        for group in groups:
            if len(group) > 1:
                try:
                    results.update(self._submit_array(group))
                except BadInput:
                    continue
                except AutotuneError as error:
                    results.update(dict.fromkeys((request.token for request in group), error))
        for request in requests:
            if request.token not in results:
                try:
                    results[request.token] = self.submit(*request)
                except AutotuneError as error:
                    results[request.token] = error
        return [results[request.token] for request in requests]

    def _submit_array(self, group: Sequence[Request]) -> dict[str, Handle]:
        for request in group:
            env, command = self._prepare(*request)
            _slurm_array.write_script(request.trial_dir, request.token, command)
        array = _slurm_array.Array.of(group, job_name(group[0].token))
        argv = [*self._sbatch(_slurm_array.longest(group), array.name), *array.arguments()]
        job_id = commands.sbatch([*argv, str(array.script)], env)
        return {
            request.token: self._batch_handle(f"{job_id}_{index}", request.trial_dir, request.token)
            for index, request in enumerate(group)
        }

    def _prepare(self, job: Job, trial_dir: Path, token: str) -> tuple[dict[str, str], list[str]]:
        """Write the gang's files; the environment and the command that start it."""
        plan = _gang.GangPlan(1 if job.per == "job" else job.nodes)
        env = _gang.prepare(job, trial_dir, token, self.options, plan)
        command = self._srun(job) + _gang.carried_argv(self.options, trial_dir)
        if self.mode == "batch":
            own = {k: v for k, v in env.items() if not k.startswith("SLURM_") or k == "SLURM_CONF"}
            return own, command
        return env, command

    def poll(self, handle: Handle) -> GangStatus:
        """The gang's status; see ``Launcher.poll``."""
        if handle["mode"] == "step":
            return _records.with_oom(self._steps.poll(handle), self._told_of_oom(handle))
        told = self._ask(handle)
        state = told.get("JobState", "UNKNOWN")
        trial_dir = Path(handle["trial_dir"])
        if state in WAITING:
            words = (f"job {handle['job_id']}", told.get("Reason", ""), told["Never"])
            detail = ": ".join(filter(None, words))
            return GangStatus("pending", detail=detail, hopeless=bool(told["Never"]))
        if state in ACTIVE:
            return GangStatus("running", detail=last_line(trial_dir))
        status = self._over(handle, state, _records.read_exits(trial_dir, handle["token"]))
        return _records.with_oom(status, state == "OUT_OF_MEMORY" or self._told_of_oom(handle))

    def cancel(self, handle: Handle, grace_s: float, dump_stacks: bool = False) -> None:
        """Ask the gang to end, then scancel; see ``Launcher.cancel``."""
        if handle["mode"] == "step":
            spec = _records.told_spec(handle["trial_dir"])
            sweep = ["srun", f"--jobid={handle['allocation']}", "--overlap", "--input=none"]
            sweep += [f"--nodes={spec['nodes']}", "--ntasks-per-node=1"]
            sweep += _gang.sweep_argv(self.options, Path(handle["trial_dir"]), handle["token"])
            return self._steps.cancel(handle, grace_s, dump_stacks, sweep)
        token, now = handle["token"], time.monotonic()
        self._clock.asked_before(token)
        _gang.request_cancel(Path(handle["trial_dir"]), grace_s, dump_stacks)
        state = self._ask(handle).get("JobState", "UNKNOWN")
        late = state in ACTIVE and self._clock.overdue(token, grace_s, dump_stacks)
        again = now - self._stopped.get(token, -math.inf) > ESCALATION_MARGIN_S
        if (state in WAITING or late) and again:
            self._stopped[token] = now
            commands.scancel(handle["job_id"])

    def survivors(self, handle: Handle) -> list[str]:
        """The job while it is not over, and what carries the token on this host."""
        if handle["mode"] == "step":
            return self._steps.survivors(handle)
        state = self._ask(handle).get("JobState", "UNKNOWN")
        jobs = [f"job {handle['job_id']} is {state}"] if state in WAITING | ACTIVE else []
        return jobs + [describe_process(pid) for pid, _ in carriers(handle)]

    def find(self, trial_dir: Path, token: str) -> Handle | None:
        """The job that a gang runs or waits in, or the srun that was started for it."""
        found = self._steps.processes.find(trial_dir, token)
        if found is None and self.mode == "step":
            found = self._steps.find(trial_dir, token)
        if found is not None:
            return {**self._step(), **found}
        job_id = _slurm_array.started_as(trial_dir, token) or self._queued(trial_dir, token)
        return self._batch_handle(job_id, trial_dir, token) if job_id else None

    @staticmethod
    def _queued(trial_dir: Path, token: str) -> str | None:
        """The id of a gang's job or element by its name, for one that has not told it itself."""
        name, index = _slurm_array.trail(trial_dir, token) or (job_name(token), None)
        job_id = commands.job_named(name)
        return f"{job_id}_{index}" if job_id and index is not None else job_id

    def without_gpus(self) -> bool:
        """Whether none is asked for; see ``launchers.Launcher``."""
        return not self.gres

    def avoid(self, names: Sequence[str], needed: int) -> bool:
        """Exclude nodes from later jobs and steps; see ``launchers.Launcher``."""
        avoided = {name.partition(".")[0] for name in names}
        there = commands.node_names(self.placement, self.allocation)
        if not avoided <= there or len(there - avoided) < max(1, needed):
            return False
        self.avoided = tuple(sorted(avoided))
        return True

    def room(self, job: Job) -> int:
        """Gangs that the allocation's nodes, or the partition's usable ones, hold at once."""
        there = commands.node_names(self.placement, self.allocation)
        return len(there - set(self.avoided)) // job.nodes

    def _excludes(self) -> list[str]:
        left_out = ",".join(filter(None, (self.excluded, *self.avoided)))
        return [f"--exclude={left_out}"] if left_out else []

    def _step(self) -> Handle:
        return {"launcher": self.name, "mode": "step", "allocation": self.allocation}

    def _batch_handle(self, job_id: str, trial_dir: Path, token: str) -> Handle:
        return {
            "launcher": self.name,
            "mode": "batch",
            "job_id": job_id,
            "token": token,
            "trial_dir": str(trial_dir.absolute()),
            "boot_id": host.boot_id(),
            "started_at": time.time(),
        }

    def _srun(self, job: Job) -> list[str]:
        nodes = 1 if job.per == "job" else job.nodes
        argv = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
        argv += ["--kill-on-bad-exit=0", "--wait=0", "--input=none", "--cpu-bind=none"]
        if self.mode == "step":
            argv += [f"--jobid={self.allocation}", *self._gres(job), *self._excludes()]
        if job.per == "job":
            argv.append("--overlap")  # the program's own steps need room beside it
        return [*argv, *self.srun_args]

    def _gres(self, job: Job) -> list[str]:
        wanted = self.gres and job.gpus_per_node
        return [f"--gres={self.gres}:{job.gpus_per_node}"] if wanted else []

    def _sbatch(self, job: Job, name: str) -> list[str]:
        """sbatch's arguments for a job or an array of such jobs, but for its files."""
        argv = ["sbatch", "--parsable", "--no-requeue", f"--job-name={name}"]
        argv += [f"--nodes={job.nodes}", "--ntasks-per-node=1", *self._gres(job)]
        argv += [
            f"--time={self._minutes(job)}",
            "--open-mode=append",
            *self.placement,
            *self._excludes(),
        ]
        return [*argv, *(["--exclusive"] if self.exclusive else []), *self.sbatch_args]

    def _minutes(self, job: Job) -> int:
        """The time limit of a job that runs a trial: the trial's own, and time to end it."""
        return math.ceil((job.time_limit_s + self.options.grace_s + LIMIT_MARGIN_S) / 60)

    def check(self, job: Job) -> None:
        """Refuse what Slurm takes but can never run, and what it refuses; see ``Launcher.check``.

        With a QOS or arguments of the user's own only Slurm can tell the former, while it waits.
        """
        if self.mode == "step":
            self._check_allocation(job)
            return
        if not (self.sbatch_args or any(word.startswith("--qos=") for word in self.placement)):
            partition = limits.partition_of(self.placement)
            lacking = limits.lacking(partition, job.nodes, 60.0 * self._minutes(job))
            if lacking:
                raise BadInput(f"slurm: no trial could ever start: {lacking}.")
        commands.would_take(self._sbatch(job, "autotune-check"))

    def _check_allocation(self, job: Job) -> None:
        told = commands.show_job(self.allocation)
        nodes = int(told.get("NumNodes", "0").partition("-")[0])
        if nodes < job.nodes:
            raise BadInput(
                f"the job wants {job.nodes} nodes, allocation {self.allocation} has {nodes}. "
                "Set cluster.nodes, or ask for a larger allocation."
            )
        left_s = commands.time_left_s(self.allocation)
        needed_s = job.time_limit_s + self.options.grace_s
        if left_s < needed_s:
            raise PlaceSpent(
                f"allocation {self.allocation} has {left_s:.0f} s left, a trial may take "
                f"{needed_s:.0f} s: not started. `autotune resume` in a new allocation goes on."
            )

    def _ask(self, handle: Handle) -> Mapping[str, str]:
        job_id = handle["job_id"]
        asked, told = self._seen.get(job_id, (-math.inf, {}))
        if time.monotonic() - asked >= ASK_PERIOD_S:
            told = commands.show_job(job_id)
            if told.get("JobState") in WAITING:
                told["Never"] = limits.never(told)
            self._seen[job_id] = (time.monotonic(), told)
        return told

    def _over(self, handle: Handle, state: str, records: list[dict[str, Any]] | None) -> GangStatus:
        """The status of a job that Slurm says is over (or no longer knows)."""
        where = f"job {handle['job_id']}"
        if state in LOST:
            return GangStatus("lost", detail=f"{where}: {LOST[state]}")
        trial_dir = Path(handle["trial_dir"])
        started = _records.told_start(trial_dir, handle["token"]) is not None
        if state == "UNKNOWN" and not started and (trial_dir / "cancel").exists():
            return GangStatus("exited", cancelled=True, detail="cancelled before it started")
        ended_by_slurm = state in ("TIMEOUT", "DEADLINE", "CANCELLED", "OUT_OF_MEMORY")
        if records is None and not ended_by_slurm:
            since = self._ended.setdefault(handle["token"], time.monotonic())
            if time.monotonic() - since < RECORD_LINGER_S:
                return GangStatus("running", detail=f"{where}: waiting for exit records")
            told = last_line(trial_dir)
            return GangStatus("lost", detail=f"{where}: {state} {told}".strip())
        status = _records.status_of(records) if records else GangStatus("exited")
        if not ended_by_slurm:
            return status
        timed_out = state in ("TIMEOUT", "DEADLINE")
        return dataclasses.replace(
            status,
            deadline_hit=status.deadline_hit or timed_out,
            cancelled=state == "CANCELLED",
            detail=f"{where}: {state}; {status.detail}".rstrip("; "),
        )

    @staticmethod
    def _told_of_oom(handle: Handle) -> bool:
        """Whether Slurm's own messages speak of its memory killer (supervisors print nothing)."""
        try:
            text = (Path(handle["trial_dir"]) / LOG).read_bytes()[-65536:].lower()
        except OSError:
            return False
        return b"oom-kill" in text or b"oom_kill" in text or b"out of memory" in text


def job_name(token: str) -> str:
    """The job name by which a gang is found again."""
    return f"autotune-{token}"


LAUNCHER = Slurm
