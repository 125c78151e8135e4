"""Slurm's commands as functions: arguments in, facts out, its refusals as our errors."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Mapping, Sequence

from autotune.errors import BadInput, InfrastructureError

COMMAND_BOUND_S = 60.0
USER_FAULTS = re.compile(
    r"invalid|not available|unrecognized|unable to open file|more processors requested|"
    r"unknown option|not permitted|node count specification|exceeds|policy|must specify",
    re.IGNORECASE,
)
NODES_AWAY = "node configuration is not available"
"""What ``sbatch --test-only`` also says while nodes are drained or down; sbatch itself queues."""
FIELD = re.compile(r"(?:^|\s)(\w+)=(\S*)")


def run(argv: list[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit status.

    BadInput when it is not installed; InfrastructureError when it does not answer.
    """
    try:
        return subprocess.run(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_BOUND_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise BadInput(f"no program {argv[0]!r}: run on a host with Slurm's commands") from error
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(
            f"{argv[0]} did not answer within {COMMAND_BOUND_S:.0f} s: is slurmctld up?"
        ) from error


def sbatch(argv: list[str], env: Mapping[str, str]) -> str:
    """Submit; the job id. BadInput when Slurm refuses the request, else InfrastructureError."""
    done = run(argv, env)
    job_id = done.stdout.strip().partition(";")[0]
    if done.returncode == 0 and job_id.isdigit():
        return job_id
    told = done.stderr.strip() or f"exit code {done.returncode}"
    name = next(word for word in argv if word.startswith("--job-name="))
    run(["scancel", name.replace("--job-name", "--name")])  # it may have been queued all the same
    if USER_FAULTS.search(told):
        raise _refused(told)
    raise InfrastructureError(f"sbatch failed: {told}. `autotune resume` tries again.")


def would_take(argv: list[str]) -> None:
    """Ask Slurm, queueing nothing, about a request like `sbatch`'s; BadInput when it is refused."""
    done = run([argv[0], "--test-only", *argv[1:], "--wrap=true"])
    told = done.stderr.strip()
    if done.returncode != 0 and USER_FAULTS.search(told) and NODES_AWAY not in told:
        raise _refused(told)


def _refused(told: str) -> BadInput:
    return BadInput(f"sbatch refuses: {told}. Correct the launcher's options.")


def node_names(placement: Sequence[str], allocation: str) -> set[str]:
    """Nodes of an allocation, or those that the partition asked for has and that may be used."""
    if allocation:
        argv = ["squeue", "--noheader", f"--jobs={allocation}", "--format=%N"]
        hosts = run(argv).stdout.strip()
        return set(run(["scontrol", "show", "hostnames", hosts]).stdout.split()) if hosts else set()
    argv = ["sinfo", "--noheader", "--Node", "--format=%N", "--responding"]
    argv += ["--states=idle,alloc,mix,comp"]
    argv += [word for word in placement if word.startswith("--partition=")]
    return set(run(argv).stdout.split())


def scancel(job_id: str) -> None:
    """Ask Slurm to end a job; it sends TERM, and KILL after its KillWait."""
    run(["scancel", job_id])


def show_job(job_id: str) -> dict[str, str]:
    """scontrol's facts about a job; empty once it was forgotten.

    That is MinJobAge after its end, and at once for an element cancelled before it started.
    InfrastructureError when slurmctld cannot be reached.
    """
    done = run(["scontrol", "--oneliner", "show", "job", job_id])
    if done.returncode == 0:
        return dict(FIELD.findall(done.stdout))
    told = f"{done.stderr.strip()} {done.stdout.strip()}".strip()
    if "invalid job id" in told.lower() or told.endswith("not found"):
        return {}
    raise InfrastructureError(f"scontrol show job {job_id}: {told}")


def show_partitions() -> list[dict[str, str]]:
    """scontrol's facts about every partition; InfrastructureError when it cannot be reached."""
    done = run(["scontrol", "--oneliner", "show", "partition"])
    if done.returncode != 0:
        raise InfrastructureError(f"scontrol show partition: {done.stderr.strip()}")
    told = [dict(FIELD.findall(line)) for line in done.stdout.splitlines()]
    return [facts for facts in told if "PartitionName" in facts]


def job_named(name: str) -> str | None:
    """The id of a job or array of ours with this name, queued, running or just ended, or None."""
    done = run(["squeue", "--noheader", "--states=all", f"--name={name}", "--format=%F"])
    if done.returncode != 0:
        raise InfrastructureError(f"squeue: {done.stderr.strip()}")
    return done.stdout.split()[0] if done.stdout.split() else None


def time_left_s(job_id: str) -> float:
    """Seconds until a job's time limit, infinity for none; InfrastructureError when unknown."""
    done = run(["squeue", "--noheader", f"--jobs={job_id}", "--format=%L"])
    text = done.stdout.strip()
    if done.returncode != 0 or not text or text == "INVALID":
        raise InfrastructureError(f"allocation {job_id} is over or unknown: {done.stderr.strip()}")
    return parse_duration_s(text)


def parse_duration_s(text: str) -> float:
    """Slurm's ``[days-][[hours:]minutes:]seconds`` in seconds; infinity for none."""
    if text in ("UNLIMITED", "NOT_SET", "Partition_Limit"):
        return math.inf
    days, dash, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + (86400.0 * int(days) if dash else 0.0)
