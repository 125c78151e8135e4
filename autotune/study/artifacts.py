"""What a trial leaves for people to read, kept where optuna-dashboard looks for it.

Two artifacts a trial: ``trial.md`` (command, environment, rendered files, evidence) and
``log.txt`` (the end of what its ranks wrote), uploaded before the trial is told so that nobody
sees an outcome without its proof. Their ids follow from study, trial and name: a controller
that died between upload and tell uploads the same again, not twice. What `autotune profile`
leaves is an artifact of the study.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.study.paths import TrialPaths, make_private_folder, read_json, write_atomically
from autotune.study.storage import storage_errors
from autotune.trial import TrialRecord

if TYPE_CHECKING:
    from autotune.study.record import Study

PREFIX = "artifacts:"
TAIL_BYTES = 32 * 1024
FILE_BYTES = 16 * 1024
MOST_RANKS = 4
MOST_FILES = 12


def keep_artifacts(study: Study, record: TrialRecord, attempt: int) -> None:
    """Write and register a trial's artifacts, mode 0600; nothing for a trial never started.

    Raises StorageAway or InfrastructureError (disk); the call may be repeated.
    """
    paths = study.paths.trial(record.number, attempt)
    if not paths.job.is_file():
        return
    make_private_folder(study.paths.artifacts)
    texts = {"trial.md": trial_document(record, paths)}
    tail = "".join(log_tail(paths.logs))
    if tail:
        texts["log.txt"] = tail
    for name, text in texts.items():
        key = f"{study.settings.get('name')}/{record.number}/{name}"
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, key))
        write_atomically(study.paths.artifacts / identity, text, durable=False)
        kind = "text/markdown" if name.endswith(".md") else "text/plain"
        told = _told(identity, name, f"{kind}; charset=utf-8")
        study.set_system_attribute(record.number, PREFIX + identity, told)


def keep_profile(study: Study, name: str, path: Path) -> None:
    """Register a profiler's file with the study; its trial was told and takes no more.

    Raises StorageAway or InfrastructureError (disk).
    """
    make_private_folder(study.paths.artifacts)
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{study.settings.get('name')}/{name}"))
    kept = study.paths.artifacts / identity
    with storage_errors(study.url):
        kept.unlink(missing_ok=True)
        os.link(path, kept)
        told = _told(identity, name, "application/octet-stream")
        study.storage.set_study_system_attr(study.study_id, PREFIX + identity, told)


def _told(identity: str, name: str, kind: str) -> str:
    """What optuna-dashboard wants to know of an artifact."""
    return json.dumps(
        {"artifact_id": identity, "filename": name, "mimetype": kind, "encoding": None}
    )


def trial_document(record: TrialRecord, paths: TrialPaths) -> str:
    """Everything that was started, and what came of it, as Markdown."""
    lines = [f"# Trial {record.number}: {record.outcome or 'running'}", "", record.outcome_reason]
    lines += ["", f"Chosen because: {record.reason}", "", "| parameter | value |", "|---|---|"]
    lines += [
        f"| {name} | {json.dumps(value)} |"
        for name, value in record.values.items()
        if value is not None
    ]
    if record.evidence:
        lines += ["", "## Evidence", "", *fenced("\n".join(record.evidence))]
    for path in sorted(paths.logs.glob("stacks.*.txt"))[:MOST_RANKS]:
        lines += ["", f"## Where it hung: {path.name}", "", *fenced(_head(path))]
    if paths.command.is_file():
        lines += ["", "## Command", "", *fenced(_head(paths.command))]
    for relative in _rendered(paths):
        lines += ["", f"## {relative}", "", *fenced(_head(paths.folder / relative))]
    lines += ["", "## job.json", "", *fenced(_head(paths.job))]
    return "\n".join(lines) + "\n"


def fenced(text: str) -> list[str]:
    """A Markdown code block that nothing in the text can close."""
    fence = "```"
    while fence in text:
        fence += "`"
    return [fence, text.rstrip("\n"), fence]


def log_tail(logs: Path) -> Iterator[str]:
    """The end of the newest segment of the first ranks, without the stamps."""
    newest: dict[str, Path] = {}
    for path in sorted(logs.glob("rank*.log")):
        newest[path.name.split(".")[0]] = path
    for rank in sorted(newest, key=lambda name: (len(name), name))[:MOST_RANKS]:
        with newest[rank].open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read(TAIL_BYTES)
        whole = data if size <= TAIL_BYTES else data.partition(b"\n")[2]
        head = f"== {rank}" + ("" if size <= TAIL_BYTES else ", its last lines") + "\n"
        lines = (line.partition(b"\t")[2] or line for line in whole.splitlines())
        yield head + b"\n".join(lines).decode("utf-8", "replace") + "\n"


def _rendered(paths: TrialPaths) -> list[str]:
    """Files that were rendered for the trial, by their paths in its folder."""
    named = (read_json(paths.job) or {}).get("files", [])
    inside = [str(name) for name in named if (paths.folder / str(name)).is_file()]
    return inside[:MOST_FILES]


def _head(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(FILE_BYTES + 1)
    cut = "\n... (cut)" if len(data) > FILE_BYTES else ""
    return data[:FILE_BYTES].decode("utf-8", "replace") + cut
