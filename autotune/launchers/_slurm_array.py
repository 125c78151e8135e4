"""Gangs that start at once as one Slurm job array, and the trail by which each is found again.

Element ``k`` of the array runs ``array/k/job.sbatch`` of the first trial's folder, where
``array/k`` links to the folder of the ``k``-th trial: Slurm's own messages and the gang's files
then lie where they lie without an array. Every trial's ``array.json`` names the array and the
index, and is written before the array is asked for.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune.launchers import Request, _gang, host
from autotune.launchers._client import LOG
from autotune.trial import Job

SCRIPT = "job.sbatch"
STARTED = "slurm_job"


def write_script(trial_dir: Path, token: str, command: Sequence[str]) -> Path:
    """The script that runs one gang, and tells by which job; its path."""
    lines = ["#!/bin/sh", "umask 077", f"export AUTOTUNE_TOKEN={shlex.quote(token)}"]
    lines += [f'echo "$AUTOTUNE_TOKEN $SLURM_JOB_ID" > {STARTED}', f"exec {shlex.join(command)}"]
    _gang.write_files({SCRIPT: "\n".join(lines) + "\n"}, trial_dir)
    return trial_dir.absolute() / SCRIPT


def alike(requests: Sequence[Request]) -> list[list[Request]]:
    """The requests grouped by what an array's elements have in common: shape, limit, secrets."""
    groups: dict[object, list[Request]] = {}
    for request in requests:
        job = request.job
        secrets = tuple(sorted(item for item in job.env.items() if host.looks_secret(item[0])))
        shape = (job.per, job.nodes, job.gpus_per_node, math.ceil(job.time_limit_s / 60), secrets)
        groups.setdefault(shape, []).append(request)
    return list(groups.values())


def longest(group: Sequence[Request]) -> Job:
    """The job whose time limit serves a whole group."""
    return max((request.job for request in group), key=lambda job: job.time_limit_s)


@dataclass(frozen=True)
class Array:
    """One array to be: its job name, and the folder of links to its trials."""

    name: str
    folder: Path
    size: int

    @classmethod
    def of(cls, group: Sequence[Request], name: str) -> Array:
        """Link the trials' folders, leave each its trail and write the array's script."""
        first = group[0].trial_dir.absolute()
        array = cls(name, first / "array", len(group))
        array.folder.mkdir(mode=0o700, exist_ok=True)
        for index, request in enumerate(group):
            link = array.folder / str(index)
            link.unlink(missing_ok=True)
            link.symlink_to(request.trial_dir.absolute(), target_is_directory=True)
            trail = {"token": request.token, "name": name, "index": index}
            host.write_whole(str(request.trial_dir / "array.json"), trail)
        element = f'cd -P {shlex.quote(str(array.folder))}/"$SLURM_ARRAY_TASK_ID"'
        text = f"#!/bin/sh\n{element} && exec sh ./{SCRIPT}\n"
        _gang.write_files({"array.sbatch": text}, first)
        return array

    @property
    def script(self) -> Path:
        """What sbatch is given."""
        return self.folder.parent / "array.sbatch"

    def arguments(self) -> list[str]:
        """sbatch's arguments that make it an array, each element's messages in its own log."""
        output = f"--output={self.folder}/%a/{LOG}"
        return [f"--array=0-{self.size - 1}", output, f"--chdir={self.folder}"]


def started_as(trial_dir: Path, token: str) -> str | None:
    """The job that a gang's script said it runs in; None before it ran."""
    try:
        words = (trial_dir / STARTED).read_text().split()
    except (OSError, ValueError):
        return None
    return words[1] if len(words) == 2 and words[0] == token and words[1].isdigit() else None


def trail(trial_dir: Path, token: str) -> tuple[str, int] | None:
    """The array's job name and the index in it; None where the gang was not part of one."""
    told = host.read_object(str(trial_dir / "array.json"))
    if told is None or told.get("token") != token:
        return None
    name, index = told.get("name"), told.get("index")
    sound = isinstance(name, str) and type(index) is int and index >= 0
    return (str(name), int(str(index))) if sound else None
