"""The environment that a space asks for, and profilers that stand in front of a command.

``env`` of a space takes values of parameters (``NCCL_ALGO: "{algo}"``); such a parameter needs
no flag of the framework's own, and is read back from the job's environment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from autotune.config import Config, ParameterValue
from autotune.frameworks import RenderContext
from autotune.frameworks._placeholders import fill, matcher, placeholders, written
from autotune.trial import StartPer

if TYPE_CHECKING:
    from autotune.space import SearchSpace

FROM_SPACE = "env of the space"


def space_environment(space: SearchSpace, config: Config) -> dict[str, str]:
    """Variables of ``env`` with their values; one that speaks of an inactive parameter is left out.

    BadInput for an unknown placeholder.
    """
    facts = space.facts(config) if any(map(placeholders, space.env.values())) else {}
    where = str(space.source or space.name)
    filled = {name: fill(text, facts, f"{where}: env.{name}") for name, text in space.env.items()}
    return {name: value for name, value in filled.items() if value is not None}


def environment_only(space: SearchSpace, known: Collection[str]) -> set[str]:
    """Parameters that the environment takes and the framework itself has no word for."""
    named = {name for text in space.env.values() for name in placeholders(text)}
    return (named & set(space.parameters)) - set(known)


def read_environment(space: SearchSpace, env: Mapping[str, str]) -> dict[str, ParameterValue]:
    """Values of the parameters that ``env`` of the space spells, as the job's environment says."""
    values: dict[str, ParameterValue] = {}
    for name, text in space.env.items():
        for parameter, said in (matcher(text)(env.get(name, "")) or {}).items():
            offered = space.choices.get(parameter, ())
            values[parameter] = next((one for one in offered if written(one) == said), None)
    return values


CAPTURE_RANGE = ("--capture-range=cudaProfilerApi", "--capture-range-end=stop")
REPORTS: Mapping[StartPer, str] = {
    "job": "nsys",
    "node": "nsys_node%q{NODE_RANK}",
    "rank": "nsys_rank%q{RANK}",
}
"""Each process that is started has a report of its own; nsys puts the variable in."""


def under_profiler(
    argv: Sequence[str], context: RenderContext, per: StartPer, marks_range: bool
) -> tuple[str, ...]:
    """The command under Nsight Systems where that is asked for.

    ``marks_range`` says that the program opens and closes the CUDA profiler's range; all of the
    run is captured otherwise, unless `nsys_options` say when to begin and to end.
    """
    if context.profiler != "nsys":
        return tuple(argv)
    capture = CAPTURE_RANGE if marks_range else ()
    output = str(context.trial_dir / "profile" / REPORTS[per])
    nsys = ("nsys", "profile", *capture, *context.nsys_options)
    return (*nsys, "--force-overwrite=true", "--output", output, *argv)
