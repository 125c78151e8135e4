"""Every path of a study, in one place: nobody else joins file names.

    $AUTOTUNE_HOME/studies/NAME/
        study.json      settings the study was started with (no secrets)
        space.yaml      the resolved space
        study.db        the Optuna storage, unless --storage puts it elsewhere
        trials/0007/    rendered files, job.json, command.sh, logs/, exit.*.json, result.json
        trials/0007.2/  the second attempt of the same trial

Folders are 0700 and files 0600: a study is private to its user.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune.errors import BadInput, InfrastructureError

EMBEDDED = "embedded"
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def home() -> Path:
    """Where studies live: ``$AUTOTUNE_HOME``, else the user's data directory."""
    configured = os.environ.get("AUTOTUNE_HOME")
    if configured:
        return Path(configured).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data).expanduser().absolute() / "autotune"


def make_private_folder(folder: Path) -> None:
    """Create a folder and its parents, the folder itself with mode 0700.

    Raises BadInput when it cannot be created or written, InfrastructureError on a full disk.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise BadInput(
            f"{folder}: cannot be created ({error.strerror}). "
            "Set AUTOTUNE_HOME to a directory you can write."
        ) from error
    except OSError as error:
        raise disk_error(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadInput(f"{folder}: not writable. Set AUTOTUNE_HOME to a directory you can write.")


def disk_error(path: Path, error: OSError) -> InfrastructureError:
    """The error for a write that failed: says what to do next."""
    return InfrastructureError(
        f"{path}: {error.strerror or error}. Free space or repair the file system, "
        "then `autotune resume`; what was measured is kept."
    )


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a file as a whole, mode 0600: readers see the old text or the new, never half.

    ``durable`` waits until the disk has it, so that it outlives a power cut too.
    Raises InfrastructureError when the disk refuses.
    """
    handle = -1
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise disk_error(path, error) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is none or it is not a whole object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@dataclass(frozen=True)
class TrialPaths:
    """The folder of one attempt of a trial."""

    folder: Path

    @property
    def job(self) -> Path:
        """The job as it was launched, as JSON."""
        return self.folder / "job.json"

    @property
    def command(self) -> Path:
        """The exact command, for people."""
        return self.folder / "command.sh"

    @property
    def chosen(self) -> Path:
        """The trial as it was chosen: parameters, kind, reason, expectation."""
        return self.folder / "chosen.json"

    @property
    def logs(self) -> Path:
        """The folder of per-rank log segments."""
        return self.folder / "logs"

    @property
    def result(self) -> Path:
        """The result, written whole before the trial is told."""
        return self.folder / "result.json"


@dataclass(frozen=True)
class StudyPaths:
    """The folder of one study."""

    folder: Path

    @classmethod
    def named(cls, name: str) -> StudyPaths:
        """The folder of a study in the home; BadInput when the name could leave it."""
        if not NAME.fullmatch(name):
            raise BadInput(
                f"study name {name!r} is not usable: letters, digits, '.', '_' and '-' only, "
                "100 at most, starting with a letter or digit."
            )
        return cls(home() / "studies" / name)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.folder.name

    @property
    def settings(self) -> Path:
        """What the study was started with."""
        return self.folder / "study.json"

    @property
    def space(self) -> Path:
        """The resolved space."""
        return self.folder / "space.yaml"

    @property
    def database(self) -> Path:
        """The embedded SQLite database."""
        return self.folder / "study.db"

    def storage_url(self, settings: Mapping[str, Any]) -> str:
        """Where the study is recorded: its own database, found wherever the folder lies now."""
        stored = str(settings.get("storage") or EMBEDDED)
        return f"sqlite:///{self.database}" if stored == EMBEDDED else stored

    @property
    def artifacts(self) -> Path:
        """Where Optuna's artifact store keeps its files."""
        return self.folder / "artifacts"

    @property
    def trials(self) -> Path:
        """The parent of all trial folders."""
        return self.folder / "trials"

    def trial(self, number: int, attempt: int = 1) -> TrialPaths:
        """The folder of one attempt (from 1) of a trial."""
        suffix = "" if attempt == 1 else f".{attempt}"
        return TrialPaths(self.trials / f"{number:04d}{suffix}")

    def profile(self, number: int, tool: str) -> TrialPaths:
        """The folder of a trial's profile, made afresh each time by its caller."""
        return TrialPaths(self.folder / "profiles" / f"{number:04d}-{tool}")

    def exists(self) -> bool:
        """Whether a study stands here."""
        return self.settings.is_file()


def study_names() -> list[str]:
    """All studies in the home, oldest first."""
    folder = home() / "studies"
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if (path / "study.json").is_file()]
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_ctime)]


def numbered_name(stem: str) -> str:
    """The first free ``stem-N`` in the home (N from 1)."""
    number = 1
    while StudyPaths.named(f"{stem}-{number}").folder.exists():
        number += 1
    return f"{stem}-{number}"
