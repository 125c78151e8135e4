"""The best config as files that run without us: one exporter a file, found by its name.

An exporter is a file in this folder that sets ``EXPORTER`` to an object with ``name``,
``describes`` and ``files(winner)``; files whose names start with ``_`` are none.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from json import dumps  # the module json of this folder takes that name here
from pathlib import Path
from typing import Any, Protocol, cast

from autotune.config import Config
from autotune.errors import BadInput
from autotune.space import SearchSpace
from autotune.trial import Job


@dataclass(frozen=True)
class Winner:
    """A config, the job that runs it for good, and where its figures come from."""

    space: SearchSpace
    config: Config
    job: Job
    folder: Path
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """One way to write a winner down."""

    name: str
    describes: str

    def files(self, winner: Winner) -> Mapping[str, str]:
        """Relative path to text; a text that starts with ``#!`` is made executable.

        BadInput when this winner cannot be written in this form.
        """
        ...


def exporter_names() -> list[str]:
    """Names of all exporters."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def get_exporter(name: str) -> Exporter:
    """The exporter called ``name``; BadInput lists the known ones."""
    if name not in exporter_names():
        raise BadInput.unknown("export format", name, exporter_names())
    return cast(Exporter, importlib.import_module(f"{__name__}.{name}").EXPORTER)


def write_export(name: str, winner: Winner) -> list[Path]:
    """Write an export into its folder, each file whole or not at all; the paths written.

    BadInput when the folder holds something that is no export of ours.
    """
    from autotune.study.paths import write_atomically

    exporter = get_exporter(name)
    folder = winner.folder
    marker = folder / "provenance.json"
    if folder.is_dir() and any(folder.iterdir()) and not marker.exists():
        raise BadInput(f"{folder}: not empty and not an earlier export. Give another -o DIR.")
    files = {**winner.job.files, **exporter.files(winner)}
    hashes = {path: sha256(text.encode()).hexdigest() for path, text in sorted(files.items())}
    provenance = {**winner.provenance, "format": name, "sha256": hashes}
    files["provenance.json"] = dumps(provenance, indent=2) + "\n"
    files["README.md"] = _readme(exporter, winner, sorted(files))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{folder}: cannot be created ({error.strerror}). Give another -o DIR."
        ) from error
    written = []
    for relative, text in files.items():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        if text.startswith("#!"):
            path.chmod(0o755)
        written.append(path)
    return written


def _start(exporter: Exporter, files: list[str]) -> str:
    """The line that runs an export: its own, else its script."""
    script = "run.sh" if "run.sh" in files else files[0]
    return str(getattr(exporter, "run", f"./{script}"))


def _measured_on(winner: Winner) -> list[str]:
    """Where the figure was measured: on other machines it may be another."""
    from autotune.controller.fingerprint import described

    facts = winner.provenance
    said = sorted({described(found) for found in facts.get("machines") or ()})
    software = ", ".join(f"{n} {v}" for n, v in dict(facts.get("software") or {}).items())
    return [f"Measured on: {line}" for line in [*said, software] if line]


def _readme(exporter: Exporter, winner: Winner, files: list[str]) -> str:
    facts = winner.provenance
    lines = [
        f"# {winner.space.name}: {exporter.describes}",
        "",
        f"Run it: `{_start(exporter, files)}`. Arguments you add are",
        "appended (the last one counts); PYTHON names another interpreter.",
        "",
        f"From study `{facts['study']}`, trial {facts['trial']}: {facts['figure']}.",
    ]
    if facts.get("simulated"):
        lines += ["", "**SIMULATED**: this figure comes from the simulated cluster, not from GPUs."]
    lines += [f"- {note}" for note in [*_measured_on(winner), *winner.notes]]
    lines += ["", "| parameter | value |", "|---|---|"]
    lines += [
        f"| {name} | {value} |" for name, value in winner.config.values.items() if value is not None
    ]
    return "\n".join(lines) + "\n"
