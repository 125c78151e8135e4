"""A job as a shell script: every word quoted, nothing expanded that was not meant to be."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from autotune.trial import Job

HERE = "${HERE}"


def script(lines: Sequence[str]) -> str:
    """A whole bash script; its own folder is HERE where a line asks for it.

    The one check switched off is the hint that ``$`` in single quotes does not expand: here it
    must not.
    """
    head = ["#!/usr/bin/env bash", "# shellcheck disable=SC2016", "set -euo pipefail"]
    if any("HERE" in line for line in lines):
        head.append('HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"')
    return "\n".join([*head, *lines]) + "\n"


def header(job: Job, folder: Path) -> list[str]:
    """Working directory, environment, and a check of what has to be put there."""
    lines = [f"cd {word(job.cwd, folder)}" if job.cwd else 'cd "$HERE"']
    for name, value in environment(job).items():
        lines.append(f"export {name}={word(value, folder)}")
    for relative in to_provide(job, folder):
        path = f"{HERE}/{relative}"
        lines.append(
            f'[ -e "{path}" ] || {{ echo "put or link it there first: {path}" >&2; exit 2; }}'
        )
    return lines


def to_provide(job: Job, folder: Path) -> list[str]:
    """Paths below the export's folder that the command names and the export does not hold."""
    named = (Path(item) for item in job.argv if item.startswith(f"{folder}/"))
    relative = [path.relative_to(folder).as_posix() for path in named]
    return [path for path in relative if path not in job.files]


def environment(job: Job) -> Mapping[str, str]:
    """The job's environment; secrets are taken from the caller's environment at run time."""
    from autotune.launchers.host import looks_secret

    return {name: value for name, value in sorted(job.env.items()) if not looks_secret(name)}


def word(text: str, folder: Path) -> str:
    """One shell word; paths below the export's folder follow it wherever it is moved."""
    inside = str(folder)
    if inside not in text:
        return shlex.quote(text)
    parts = [shlex.quote(part) if part else "" for part in text.split(inside)]
    return f'"{HERE}"'.join(parts)


def command(argv: Sequence[str], folder: Path) -> str:
    """An argument vector as one command over several lines: a flag and its values a line.

    A Python interpreter in front can be replaced by setting PYTHON.
    """
    lines: list[list[str]] = [[]]
    for position, item in enumerate(argv):
        if item.startswith("-") and lines[-1]:
            lines.append([])
        is_python = position == 0 and Path(item).is_absolute() and "python" in Path(item).name
        text = word(item, folder)
        lines[-1].append(f'"${{PYTHON:-{text}}}"' if is_python and text == item else text)
    return " \\\n    ".join(" ".join(line) for line in lines)


def torchrun(job: Job) -> list[str]:
    """The job's program under torchrun where it is started per rank; as it is otherwise.

    One node rendezvous on its own; several take NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT
    from the environment, as schedulers set them.
    """
    if job.per != "rank":
        return list(job.argv)
    python, *rest = job.argv
    start = [python, "-m", "torch.distributed.run", f"--nproc-per-node={max(1, job.gpus_per_node)}"]
    if job.nodes == 1:
        start.append("--standalone")
    return [*start, *rest]


def rendezvous(job: Job) -> list[str]:
    """Lines that make torchrun find the other nodes; none on one node."""
    if job.nodes == 1 or job.per == "job":
        return []
    return [
        f'export PET_NNODES="${{NNODES:-{job.nodes}}}"',
        'export PET_NODE_RANK="${NODE_RANK:?set NODE_RANK to the number of this node, from 0}"',
        'export PET_MASTER_ADDR="${MASTER_ADDR:?set MASTER_ADDR to the address of the first node}"',
        'export PET_MASTER_PORT="${MASTER_PORT:-29500}"',
    ]
