"""What a training system must tell us, and how a new one is found.

A framework is one file in this folder, named after itself, that sets ``FRAMEWORK`` to an
object with the members of :class:`Framework`. A file dropped here, or an entry point in the
group ``autotune.frameworks`` that resolves to such an object, is found by its name and picked
up by the contract test unedited. Files whose names start with ``_`` are no frameworks.
Frameworks never import each other.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast, runtime_checkable

from autotune.config import Config, ParameterValue
from autotune.errors import BadInput
from autotune.trial import Fidelity, Job

if TYPE_CHECKING:
    from autotune.logs import LogFormat
    from autotune.space import Rule, SearchSpace

ENTRY_POINT_GROUP = "autotune.frameworks"


@dataclass(frozen=True)
class RenderContext:
    """What a rendered job depends on besides the space and the config.

    ``trial_dir`` is where the launcher will write ``Job.files`` (absolute path); ``python`` is
    the interpreter of the training environment; ``seed`` seeds weights and mock data, equal for
    all trials of a study so that first losses can be compared; ``steps`` overrides the space's
    ``trial.steps``. ``fidelity`` tells a run to the target loss from the look at the throughput
    before it. ``purpose`` is ``export`` when the job is meant to outlive the study: load
    and save paths are then restored, which a trial never touches. ``profiler`` asks for the
    framework's own profiler, or for the program under nsys with ``nsys_options``.
    ``simulated`` asks for the simulated cluster instead of the real program,
    ``simulation_seed`` draws its hidden physics and ``time_compression`` is simulated seconds
    per real second.
    """

    trial_dir: Path
    python: str = sys.executable
    seed: int = 1234
    steps: int | None = None
    fidelity: Fidelity = "full"
    purpose: Literal["trial", "export"] = "trial"
    profiler: Literal["torch", "nsys"] | None = None
    nsys_options: tuple[str, ...] = ()
    simulated: bool = False
    simulation_seed: int = 0
    time_compression: float = 1.0


@runtime_checkable
class Framework(Protocol):
    """One training system: a config in, a job out, and how to read what the job says."""

    name: str

    def rules(self, space: SearchSpace) -> tuple[Rule, ...]:
        """Constraints the system itself imposes, each with its reason.

        BadInput when the space has a parameter, or asks for a contract, that this framework
        cannot express (unknown parameters list the known ones).
        """
        ...

    def render(self, space: SearchSpace, config: Config, context: RenderContext) -> Job:
        """The job of one config; starts nothing and writes nothing. BadInput as for rules."""
        ...

    def log_format(self, space: SearchSpace) -> LogFormat:
        """The line patterns its log is read with."""
        ...

    def read_back(self, space: SearchSpace, job: Job) -> Mapping[str, ParameterValue]:
        """Canonical values as the rendered job says them, read from argv, env and files only.

        The contract test renders every legal corner of every shipped space and compares: each
        active value of the config must come back equal.
        """
        ...


@functools.cache
def _modules() -> list[str]:
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in names if not name.startswith("_")]


@functools.cache
def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def framework_names() -> list[str]:
    """Names of all frameworks: this folder's files and installed plug-ins, sorted."""
    return sorted({*_modules(), *_plugins()})


def get_framework(name: str) -> Framework:
    """The framework called ``name``; only its own module is imported.

    BadInput lists the known names, or says which member a plug-in lacks.
    """
    plugins = _plugins()
    if name in _modules():
        found: object = importlib.import_module(f"{__name__}.{name}").FRAMEWORK
    elif name in plugins:
        found = plugins[name].load()
    else:
        raise BadInput.unknown("framework", name, framework_names())
    members: Iterable[str] = ("name", "rules", "render", "log_format", "read_back")
    missing = [member for member in members if not hasattr(found, member)]
    if missing:
        raise BadInput(f"framework {name!r} lacks {', '.join(missing)}: see {__name__}.Framework")
    return cast(Framework, found)
