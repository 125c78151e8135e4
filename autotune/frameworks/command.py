"""The user's own program, unchanged: values go in as ``{name}``, figures come out of its log.

``command`` is a list of arguments, never a shell line. Arguments, values of ``env`` and the
texts of ``files`` take parameters, derived sizes, the contract, and ``{trial_dir}``, ``{seed}``,
``{steps}``, ``{python}`` and ``{profiler}`` (see ``_placeholders``). A parameter that appears
nowhere is an error: it would be measured, and mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from autotune.config import Config, ParameterValue
from autotune.errors import BadInput
from autotune.frameworks import RenderContext
from autotune.frameworks._environment import under_profiler
from autotune.frameworks._placeholders import (
    fill,
    fill_arguments,
    fill_file,
    matcher,
    placeholders,
    written,
)
from autotune.frameworks._space import refuse_profiler
from autotune.logs import LogFormat, format_from_metric
from autotune.space import Expression, Rule, SearchSpace
from autotune.trial import Fidelity, Job

if TYPE_CHECKING:
    from autotune.trial import StartPer

CONTEXT_NAMES = ("trial_dir", "seed", "steps", "python", "profiler")
STARTS = ("job", "node", "rank")
OPTIONS = ("per",)
THROUGHPUT_STEPS = 20


class CommandFramework:
    """`framework: command`."""

    name = "command"

    def first_fidelity(self, space: SearchSpace) -> Fidelity:
        """A time to train is searched by throughput first where ``{steps}`` ends a run early.

        In a run to the target ``{steps}`` is inactive: its argument and flag are left out.
        """
        if space.objective.metric != "time_to_target_s":
            return "full"
        return "throughput" if _tells_steps(space) else "target"

    def rules(self, space: SearchSpace) -> tuple[Rule, ...]:
        """None of its own. BadInput for a missing command, an unknown placeholder or option,
        and for a parameter that neither command, env nor files speak of.
        """
        where = _where(space)
        if not space.command:
            raise BadInput(f"{where}: command is missing: a list such as [python3, train.py]")
        for option in space.options:
            if option not in OPTIONS:
                raise BadInput.unknown("option of framework command", option, OPTIONS, where)
        if space.options.get("per", "job") not in STARTS:
            raise BadInput.unknown("options.per", str(space.options["per"]), STARTS, where)
        used = set().union(*(names for _, names in _uses(space)))
        known = {*space.facts({}), *CONTEXT_NAMES}
        for key, names in _uses(space):
            for name in sorted(names - known):
                raise BadInput.unknown("placeholder", name, known, where=f"{where}: {key}")
        for name in space.parameters:
            if name not in _spoken_of(space, used):
                raise BadInput(
                    f"{where}: parameter {name!r} appears nowhere: write {{{name}}} in command, "
                    "env or files, or drop it"
                )
        return ()

    def render(self, space: SearchSpace, config: Config, context: RenderContext) -> Job:
        """The command with its values. An inactive parameter's argument is left out, with the
        flag before it where the value stood alone; so is an environment variable.
        """
        refuse_profiler(
            self.name, context, _profilers(space), "nobody but your program can switch that on: "
            "give it a flag for it, with {profiler} as its value in `command` (torch in a profiled "
            "run; left out of all others, with the flag before it), let it write its trace into "
            "{trial_dir}/profile, and search again; --with nsys works for any program",
        )  # fmt: skip
        where = _where(space)
        steps = None if context.fidelity == "target" else context.steps or space.trial.steps
        if context.fidelity == "throughput":
            steps = steps or THROUGHPUT_STEPS
        values: dict[str, ParameterValue] = dict(space.facts(config))
        values.update(
            trial_dir=str(context.trial_dir), seed=context.seed, steps=steps, python=context.python,
            profiler=context.profiler,
        )  # fmt: skip
        environment = {
            name: filled
            for name, text in space.env.items()
            if (filled := fill(text, values, f"{where}: env.{name}")) is not None
        }
        per = cast("StartPer", space.options.get("per", "job"))
        argv = tuple(fill_arguments(space.command or (), values, f"{where}: command"))
        return Job(
            argv=under_profiler(argv, context, per, marks_range=False),
            env=environment,
            files={
                target: fill_file(str(text), values, f"{where}: files.{target}")
                for target, text in space.files.items()
            },
            cwd=space.working_directory,
            per=per,
            nodes=space.cluster.nodes,
            gpus_per_node=space.cluster.gpus_per_node,
            time_limit_s=space.trial.time_limit_s,
            total_steps=steps if _tells_steps(space) else None,
            sources=_sources(space, config, environment),
        )

    def passes_on(self, space: SearchSpace) -> frozenset[str]:
        """Sizes that command, env or files speak of, so that a smaller job can be rendered."""
        used = frozenset[str]().union(*(names for _, names in _uses(space)))
        return used & {"global_batch_size", "num_layers"}

    def log_format(self, space: SearchSpace) -> LogFormat:
        """What `metric` says; without one, any known format."""
        if space.metric is None:
            return format_from_metric({"format": "auto"})
        return format_from_metric(space.metric.model_dump(exclude_none=True))

    def read_back(self, space: SearchSpace, job: Job) -> Mapping[str, ParameterValue]:
        """The parameters' values as the rendered arguments, variables and files spell them."""
        found: dict[str, str] = {}
        arguments = iter(job.argv)
        argument = next(arguments, None)
        for text in space.command or ():
            read = matcher(text)(argument) if argument is not None else None
            if read is not None:
                found.update(read)
                argument = next(arguments, None)
        for name, text in space.env.items():
            found.update(matcher(text)(job.env.get(name, "")) or {})
        for target, template in space.files.items():
            found.update(matcher(str(template), file=True)(job.files[target]) or {})
        return {
            name: choice
            for name, choices in space.choices.items()
            for choice in choices
            if found.get(name) == written(choice)
        }


def _where(space: SearchSpace) -> str:
    return str(space.source or space.name)


def _uses(space: SearchSpace) -> Iterator[tuple[str, set[str]]]:
    """Each key that takes placeholders, with the names it asks for."""
    for index, text in enumerate(space.command or ()):
        yield f"command.{index}", placeholders(text)
    for name, text in space.env.items():
        yield f"env.{name}", placeholders(text)
    for target, template in space.files.items():
        yield f"files.{target}", placeholders(str(template), file=True)


def _spoken_of(space: SearchSpace, used: set[str]) -> set[str]:
    """Parameters said outright, through a derived size, or by another one being there or not."""
    conditions = [p.when for name, p in space.parameters.items() if name in used and p.when]
    spoken = set(used)
    for text in [*conditions, *(name for name in used if name in space.names.derived)]:
        spoken |= space.names.parameters_of(Expression.parse(text))
    return spoken


def _profilers(space: SearchSpace) -> tuple[str, ...]:
    told = any("profiler" in names for _, names in _uses(space))
    return ("torch", "nsys") if told else ("nsys",)


def _tells_steps(space: SearchSpace) -> bool:
    return any("steps" in names for _, names in _uses(space))


def _sources(space: SearchSpace, config: Config, environment: Mapping[str, str]) -> dict[str, str]:
    """Where each value of the command line and the environment came from."""
    sources: dict[str, str] = {}
    for key, names in _uses(space):
        if key.startswith("env.") and key[4:] not in environment:
            continue
        for name in sorted(names):
            sources.setdefault(name, f"{_origin(space, config, name)}, in {key}")
    for name in environment:
        if not placeholders(space.env[name]):
            sources[name] = "env of the space"
    return sources


def _origin(space: SearchSpace, config: Config, name: str) -> str:
    if name in config.values:
        return "parameter"
    if name in CONTEXT_NAMES:
        return "autotune"
    return "derived" if name in space.names.derived else "contract, cluster or model"


FRAMEWORK = CommandFramework()
