"""Where gangs run: what every place must offer, and how a new one is found.

A launcher is one file in this folder, named after itself, that sets ``LAUNCHER`` to a class
whose instances have the members of :class:`Launcher`. A file dropped here, or an entry point
in the group ``autotune.launchers``, is found by its name and picked up by the contract test
unedited. Files whose names start with ``_`` are no launchers, nor are those that
run on the nodes (``supervisor.py`` and its neighbours). Launchers never import each other.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

from autotune.errors import AutotuneError, BadInput, EngineLost
from autotune.launchers.supervisor import NODE_FILES
from autotune.trial import GangStatus, Handle, Job

ENTRY_POINT_GROUP = "autotune.launchers"
NODE_SIDE = frozenset(name.removesuffix(".py") for name in NODE_FILES)
MEMBERS = ("name", "submit", "poll", "cancel", "survivors", "find")


@runtime_checkable
class Launcher(Protocol):
    """One place where gangs run. Handles are JSON and outlive the process that got them.

    One that can leave nodes out also has ``avoid(names, needed) -> bool``: no later gang runs on
    the named nodes (all that are to be avoided from now on); False, and nothing changed, where
    it cannot or fewer than ``needed`` would remain. One that knows how many gangs of a job's
    shape run side by side has ``room(job) -> int``. One that can tell beforehand that the place
    could never run a job has ``check(job)``, which raises BadInput or InfrastructureError then.
    One that can tell that its nodes have no GPU has ``without_gpus() -> bool``.
    """

    name: str

    def submit(self, job: Job, trial_dir: Path, token: str) -> Handle:
        """Write the job's files and start its gang; returns before the gang has ended.

        Writes nothing outside ``trial_dir``. ``token`` marks every process of the gang
        (AUTOTUNE_TOKEN in its environment). BadInput when the job cannot be started as it
        stands (missing program or folder); InfrastructureError when the place refuses.
        """
        ...

    def poll(self, handle: Handle) -> GangStatus:
        """What is known of the gang now; never blocks for long, never touches a stranger."""
        ...

    def cancel(self, handle: Handle, grace_s: float, dump_stacks: bool = False) -> None:
        """Ask the gang to end; returns at once, harmless to repeat, and later calls escalate.

        The ranks get TERM, then KILL ``grace_s`` seconds later. ``dump_stacks`` has py-spy
        write the stacks of the gang's Python processes to ``logs/stacks.*.txt`` first, where
        it can. A call after the grace (and a margin) kills directly what is still there.
        """
        ...

    def survivors(self, handle: Handle) -> list[str]:
        """Descriptions of what still runs of the gang; empty once it is proven gone."""
        ...

    def find(self, trial_dir: Path, token: str) -> Handle | None:
        """A gang that was started but whose handle was never recorded; None if none was."""
        ...


class Request(NamedTuple):
    """A gang to start: the arguments of ``Launcher.submit``."""

    job: Job
    trial_dir: Path
    token: str


def submit_all(launcher: Launcher, requests: Sequence[Request]) -> list[Handle | AutotuneError]:
    """Start several gangs; each one's handle, or why it did not start.

    A launcher that has ``submit_together``, of this function's shape, gets several at once.
    EngineLost is raised: then nothing is known of any of them.
    """
    together = getattr(launcher, "submit_together", None)
    if together is not None and len(requests) > 1:
        return cast("list[Handle | AutotuneError]", together(requests))
    results: list[Handle | AutotuneError] = []
    for request in requests:
        try:
            results.append(launcher.submit(*request))
        except EngineLost:
            raise
        except AutotuneError as error:
            results.append(error)
    return results


def room_for(launcher: Launcher, job: Job) -> int:
    """How many gangs of a job's shape run side by side: 1 where the launcher cannot tell."""
    room = getattr(launcher, "room", None)
    return max(1, int(room(job))) if room is not None else 1


def without_gpus(launcher: Launcher) -> bool:
    """Whether gangs would run where there is no GPU, as far as the launcher can tell."""
    told = getattr(launcher, "without_gpus", None)
    return told is not None and bool(told())


def check_place(launcher: Launcher, job: Job) -> None:
    """BadInput or InfrastructureError where the launcher knows that such a job could never run."""
    check = getattr(launcher, "check", None)
    if check is not None:
        check(job)


HANDLE_TYPES: Mapping[str, type] = {
    "token": str, "trial_dir": str, "boot_id": str, "host": str, "pid": int, "start_time": int,
}  # fmt: skip


ALWAYS = ("token", "trial_dir")


def sound_handle(found: object, launcher: Launcher) -> Handle | None:
    """A handle as it was stored; None when it is damaged, so that the gang is looked for anew.

    A launcher whose handles name processes of this host says so by ``names_processes``.
    """
    needed = set(HANDLE_TYPES) if getattr(launcher, "names_processes", False) else set(ALWAYS)
    if not isinstance(found, dict) or not needed <= found.keys():
        return None
    for name, kind in HANDLE_TYPES.items():
        value = found.get(name, kind(1))
        if type(value) is not kind or (isinstance(value, str) and "\0" in value):
            return None
        if name == "pid" and isinstance(value, int) and value <= 0:
            return None
    return found


def end_gang(launcher: Launcher, handle: Handle, grace_s: float) -> list[str]:
    """Cancel and wait, within ``2 * grace_s + 20`` seconds; returns what survived."""
    bound = time.monotonic() + 2 * grace_s + 20.0
    while True:
        launcher.cancel(handle, grace_s)
        ended = launcher.poll(handle).state in ("exited", "lost")
        left = launcher.survivors(handle)
        if (ended and not left) or time.monotonic() > bound:
            return left
        time.sleep(0.05)


def _modules() -> list[str]:
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in names if not name.startswith("_") and name not in NODE_SIDE]


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def launcher_names() -> list[str]:
    """Names of all launchers: this folder's files and installed plug-ins, sorted."""
    return sorted({*_modules(), *_plugins()})


def get_launcher(name: str, options: Mapping[str, Any] | None = None) -> Launcher:
    """The launcher called ``name`` with its options; only its own module is imported.

    BadInput lists the known names or options, or says which member a plug-in lacks.
    """
    plugins = _plugins()
    if name in _modules():
        found: Any = importlib.import_module(f"{__name__}.{name}").LAUNCHER
    elif name in plugins:
        found = plugins[name].load()
    else:
        raise BadInput.unknown("launcher", name, launcher_names())
    launcher = found(dict(options or {}))
    missing = [member for member in MEMBERS if not hasattr(launcher, member)]
    if missing:
        raise BadInput(f"launcher {name!r} lacks {', '.join(missing)}: see {__name__}.Launcher")
    return cast(Launcher, launcher)
