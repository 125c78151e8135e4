"""What every launcher writes before a gang starts and reads after it ended.

A launcher differs in how it starts the supervisors (a process, srun, mpirun, an actor); the
description they are given and the records they leave are the same, and made here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from autotune.errors import BadInput, InfrastructureError
from autotune.launchers import host, members, supervisor
from autotune.trial import Job

SUPERVISOR = Path(supervisor.__file__)
PYTHON_WORDS = ("python", "python3", sys.executable)
PLACE_NAMES = tuple(
    f"{prefix}{name}"
    for prefix, names in (
        ("", ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "NNODES", "RANK", "LOCAL_RANK")),
        ("", ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "PYTHONUNBUFFERED")),
        ("PET_", ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "NNODES")),
        ("PET_", ("NPROC_PER_NODE", "MAX_RESTARTS")),
        ("AUTOTUNE_", ("TOKEN", "PART", "TRIAL_DIR")),
    )
    for name in names
)


@dataclass(frozen=True)
class GangOptions:
    """Options that every launcher takes.

    ``python`` is the trial's interpreter, put in place of a job's own ``python`` (its folder
    leads PATH, so that its torchrun is found); ``container_prefix`` is an argument vector put
    before each started program (apptainer, enroot, docker run ...; ``{rank}`` in it becomes
    the rank); ``pass_env`` names variables of the controller that trials see besides the
    allow-list; ``node_python`` runs the supervisor. Graces are in seconds.
    """

    python: str | None = None
    container_prefix: tuple[str, ...] = ()
    pass_env: tuple[str, ...] = ()
    node_python: str = sys.executable
    grace_s: float = 10.0
    peer_grace_s: float = 5.0

    @property
    def trial_python(self) -> str | None:
        """What stands for a job's ``python``; None leaves it (in a container, its own python3)."""
        return self.python or ("python3" if self.container_prefix else None)

    @property
    def path_prefix(self) -> str:
        """The folder that leads the trial's PATH, empty for none."""
        return str(Path(self.python).parent) if self.python and os.sep in self.python else ""

    @classmethod
    def take(cls, options: dict[str, Any], where: str) -> GangOptions:
        """Remove the common options from ``options``; BadInput when one is of the wrong kind."""
        values: dict[str, Any] = {}
        for entry in dataclasses.fields(cls):
            if entry.name not in options:
                continue
            value = options.pop(entry.name)
            if entry.name in ("container_prefix", "pass_env"):
                value = words(value, f"{where}.{entry.name}")
            elif entry.name.endswith("_s"):
                value = seconds(value, f"{where}.{entry.name}")
            elif value is not None and not isinstance(value, str):
                raise BadInput(f"{where}.{entry.name}: expected a path, got {value!r}")
            values[entry.name] = value
        return cls(**values)


def words(value: Any, where: str) -> tuple[str, ...]:
    """A list of words as the user gave it; BadInput when it is something else."""
    if isinstance(value, (list, tuple)) and all(isinstance(word, (str, int)) for word in value):
        return tuple(str(word) for word in value)
    raise BadInput(f"{where}: expected a list of words, got {value!r}")


def seconds(value: Any, where: str) -> float:
    """A non-negative number of seconds; BadInput when it is something else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise BadInput(f"{where}: expected seconds (a number >= 0), got {value!r}")


def refuse_unknown(options: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """BadInput for the first option that nobody took."""
    common = tuple(entry.name for entry in dataclasses.fields(GangOptions))
    for name in options:
        raise BadInput.unknown("option", name, known + common, where)


@dataclass(frozen=True)
class GangPlan:
    """How one launcher places a job: parts are supervisors, one a node or one a rank.

    ``hosts``: what the user calls the nodes; a part tells its own by that name where it finds it.
    """

    parts: int
    unit: Literal["node", "rank"] = "node"
    master_addr: str = ""
    master_port: int = 0
    gpus: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def prepare(
    job: Job, trial_dir: Path, token: str, options: GangOptions, plan: GangPlan
) -> dict[str, str]:
    """Write the job's files and gang.json; returns the environment to start supervisors with.

    Values of secret-looking variables are in the returned environment only, never in a file.
    BadInput when a file would leave ``trial_dir``; InfrastructureError when the disk refuses.
    """
    secrets = {name for name in job.env if host.looks_secret(name)}
    argv = list(job.argv)
    if options.trial_python and argv[0] in PYTHON_WORDS:
        argv[0] = options.trial_python
    spec = {
        "version": 1,
        "token": token,
        "argv": argv,
        "argv_prefix": container_argv(job, options, trial_dir),
        "env": {name: value for name, value in job.env.items() if name not in secrets},
        "inherit": sorted(secrets | set(options.pass_env)),
        "cwd": job.cwd,
        "per": job.per,
        "nodes": job.nodes,
        "gpus_per_node": job.gpus_per_node,
        "time_limit_s": job.time_limit_s,
        "grace_s": options.grace_s,
        "peer_grace_s": options.peer_grace_s,
        "master_addr": plan.master_addr,
        "master_port": plan.master_port,
        "gpus": list(plan.gpus),
        "hosts": list(plan.hosts),
        "parts": plan.parts,
        "unit": plan.unit,
        "path_prefix": options.path_prefix,
        "py_spy": shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.defpath}"),
        "container_engine": container_engine(options),
    }
    try:
        write_files(job.files, trial_dir)
        if spec["container_engine"]:
            (trial_dir / "containers").mkdir(mode=0o700, exist_ok=True)
        host.write_whole(str(trial_dir / "gang.json"), spec, durable=False)
    except OSError as error:
        raise InfrastructureError(
            f"{trial_dir}: {error.strerror or error}. Free space or repair the file system, "
            "then `autotune resume`."
        ) from error
    environment = host.allowed_environment(secrets | set(options.pass_env))
    environment.update({name: job.env[name] for name in secrets})
    environment.update({"AUTOTUNE_TOKEN": token})
    return environment


def container_engine(options: GangOptions) -> list[str]:
    """docker or podman with its global options: the words before ``run``; empty for others."""
    prefix = list(options.container_prefix)
    known = bool(prefix) and Path(prefix[0]).name in ("docker", "podman") and "run" in prefix
    return prefix[: prefix.index("run")] if known else []


def container_argv(job: Job, options: GangOptions, trial_dir: Path) -> list[str]:
    """The container prefix; docker and podman also get an id file and the variables' names."""
    prefix = list(options.container_prefix)
    engine = container_engine(options)
    if not engine:
        return prefix
    names = [*PLACE_NAMES, *job.env, *options.pass_env]
    folder = trial_dir.absolute() / "containers"
    inserted = ["run", "--cidfile", str(folder / "rank{rank}.cid")]
    for name in dict.fromkeys(names):
        inserted += ["--env", name]
    return engine + inserted + prefix[len(engine) + 1 :]


def write_files(files: Mapping[str, str], trial_dir: Path) -> None:
    """Write a job's files under the trial's folder, 0600; BadInput when one would leave it."""
    trial_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    root = trial_dir.resolve()
    for name, text in files.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root) or path == root:
            raise BadInput(f"file {name!r} of the job would lie outside its trial's folder {root}")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def check_program(job: Job, options: GangOptions, trial_dir: Path) -> None:
    """BadInput when the job's program or folder is not on this host."""
    cwd = Path(job.cwd) if job.cwd else trial_dir
    if job.cwd and not cwd.is_dir():
        raise BadInput(
            f"{cwd}: the job's working directory does not exist. Set `cwd` in the space."
        )
    if not job.argv:
        raise BadInput("the job has an empty command: nothing to start.")
    argv = [*options.container_prefix, *job.argv]
    program = options.python if options.python and argv[0] in PYTHON_WORDS else argv[0]
    path = job.env.get("PATH", os.environ.get("PATH", os.defpath))
    path = os.pathsep.join(filter(None, (options.path_prefix, path)))
    if os.sep in program:
        place = cwd / program
        if not (place.is_file() and os.access(place, os.X_OK)):
            raise BadInput(f"{place}: no such program, or not executable. Correct the command.")
    elif shutil.which(program, path=path) is None:
        raise BadInput(
            f"program {program!r} is not on PATH ({path}). Install it, or give its path."
        )


def supervisor_argv(options: GangOptions, trial_dir: Path, index: str) -> list[str]:
    """The command that runs part ``index`` of a gang on this host."""
    gang = str(trial_dir.absolute() / "gang.json")
    return [options.node_python, "-I", "-S", str(SUPERVISOR), gang, index]


def carried_argv(options: GangOptions, trial_dir: Path) -> list[str]:
    """The command that runs a part on any node that sees the trial's folder.

    The supervisor is copied there, since nodes need not see the controller's installation;
    which part it is, srun or mpirun tell.
    """
    folder = trial_dir.absolute() / "node"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in supervisor.NODE_FILES:
        shutil.copyfile(SUPERVISOR.with_name(name), folder / name)
    script, gang = folder / SUPERVISOR.name, trial_dir.absolute() / "gang.json"
    return [options.node_python, "-I", "-S", str(script), str(gang), "env"]


def sweep_argv(options: GangOptions, trial_dir: Path, token: str) -> list[str]:
    """What an engine runs once on each node to end what carries a token."""
    script = trial_dir.absolute() / "node" / SUPERVISOR.name
    return [options.node_python, "-I", "-S", str(script), "--sweep", token]


class CancelClock:
    """Since when each gang was asked to end: what tells a first request from a late one."""

    def __init__(self, margin_s: float) -> None:
        self.margin_s = margin_s
        self._asked: dict[str, float] = {}

    def asked_before(self, token: str) -> bool:
        """Whether this is a repetition; starts the gang's clock if not."""
        before = token in self._asked
        self._asked.setdefault(token, time.monotonic())
        return before

    def overdue(self, token: str, grace_s: float, dump_stacks: bool) -> bool:
        """Whether grace, dumps and margin are over and the gang may be killed directly."""
        allowed_s = grace_s + self.margin_s + (members.DUMP_BOUND_S if dump_stacks else 0.0)
        return time.monotonic() >= self._asked.get(token, math.inf) + allowed_s


def request_cancel(trial_dir: Path, grace_s: float, dump_stacks: bool) -> None:
    """Leave the request that every part's supervisor looks for; the first request stands.

    A disk that refuses is no error here: launchers also signal, and escalate.
    """
    path = trial_dir / "cancel"
    if not path.exists():
        with contextlib.suppress(OSError):
            request = {"grace_s": grace_s, "dump": dump_stacks}
            host.write_whole(str(path), request, durable=False)
