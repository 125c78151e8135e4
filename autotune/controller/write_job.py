"""What stands in a trial's folder before anything starts: job.json and command.sh.

Values of variables whose names look secret are never written.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from autotune.errors import InfrastructureError
from autotune.launchers.host import looks_secret
from autotune.study.paths import TrialPaths, make_private_folder, read_json, write_atomically
from autotune.trial import Job

HIDDEN = "***"


def shown_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment with the values of secrets hidden."""
    return {name: HIDDEN if looks_secret(name) else value for name, value in env.items()}


def command_text(job: Job) -> str:
    """The exact command as a POSIX shell script, for people and for copying."""
    lines = ["#!/bin/sh"]
    if job.cwd:
        lines.append(f"cd {shlex.quote(job.cwd)} || exit")
    for name, value in sorted(shown_environment(job.env).items()):
        lines.append(f"export {name}={shlex.quote(value)}")
    if job.per != "job":
        count = job.world_size if job.per == "rank" else job.nodes
        lines.append(f"# started once per {job.per}: {count} times")
    lines.append("exec " + shlex.join(job.argv))
    return "\n".join(lines) + "\n"


def write_job(job: Job, paths: TrialPaths) -> None:
    """Write what will be started, for people and for adoption; the launcher writes its files."""
    make_private_folder(paths.folder)
    document = {**job.__dict__, "files": sorted(job.files), "env": shown_environment(job.env)}
    document["sources"] = dict(job.sources)
    write_atomically(paths.job, json.dumps(document, indent=1), durable=False)
    write_atomically(paths.command, command_text(job), durable=False)


def job_from_json(paths: TrialPaths) -> Job:
    """The job as it was launched, without its files' texts and secrets: for watching it.

    Raises InfrastructureError when the file is gone or damaged.
    """
    data = read_json(paths.job)
    if data is None:
        raise InfrastructureError(f"{paths.job}: missing or damaged; the trial cannot be adopted")
    known = {key: data[key] for key in Job.__dataclass_fields__ if key in data}
    known["argv"] = tuple(known.get("argv", ()))
    known["files"] = {}
    return Job(**known)
