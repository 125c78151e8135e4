"""What several frameworks ask of a space: its facts, its paths, and whether they know its names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.config import Config, ParameterValue
from autotune.errors import BadInput
from autotune.frameworks import RenderContext
from autotune.frameworks._environment import environment_only
from autotune.space.contract import CONTRACT_KEYS

if TYPE_CHECKING:
    from autotune.space import SearchSpace


def where(space: SearchSpace) -> str:
    """The space's file, else its name, for the head of a message."""
    return str(space.source or space.name)


COMMON_OPTIONS = ("without_gpu",)
"""Options that are read before any framework sees the space."""

Allowed = type | tuple[ParameterValue, ...]
"""What a parameter may be: a type (float takes whole numbers too), or one of several values."""


def refuse_unknown(
    space: SearchSpace,
    framework: str,
    parameters: Mapping[str, Allowed],
    options: Collection[str],
    config: Config | None = None,
) -> None:
    """BadInput for the first parameter, value, contract or option that the framework cannot say.

    Every choice of the space is looked at, or the values of ``config`` alone. Where the
    framework itself is a parameter, names may belong to another one and only ``config`` counts.
    """
    shared = len(space.frameworks) > 1
    elsewhere = {"framework", *environment_only(space, parameters)}
    contract = {key: (getattr(space.contract, key),) for key in CONTRACT_KEYS}
    offered: dict[str, tuple[ParameterValue, ...]] = {}
    if config is not None:
        offered = {name: (value,) for name, value in config.values.items()}
    elif not shared:
        offered = dict(space.choices)
    place = where(space)
    for name, values in (*offered.items(), *contract.items()):
        for value in values:
            if value is not None and name not in elsewhere:
                check_value(name, value, parameters, f"{place}: {framework}")
    for name in () if shared else space.options:
        if name not in options and name not in COMMON_OPTIONS:
            raise BadInput.unknown(f"{framework} option", name, options, where=place)


def check_value(
    name: str, value: ParameterValue, parameters: Mapping[str, Allowed], place: str
) -> None:
    """BadInput unless ``parameters`` allows this value for this name."""
    if name not in parameters:
        raise BadInput.unknown("parameter", name, parameters, where=place)
    allowed = parameters[name]
    if isinstance(allowed, tuple):
        if not any(type(one) is type(value) and one == value for one in allowed):
            raise BadInput.unknown(f"value of {name}", str(value), map(str, allowed), where=place)
    elif type(value) is not allowed and not (allowed is float and type(value) is int):
        raise BadInput(f"{place}: {name}={value!r}: a value of type {allowed.__name__} is wanted")


def need_batch(space: SearchSpace) -> None:
    """BadInput unless the space tells both the micro batch and the global one."""
    searched = "global_batch_size" in space.parameters
    if "micro_batch_size" not in space.parameters:
        raise BadInput(f"{where(space)}: parameters: micro_batch_size is missing")
    if space.contract.global_batch_size is None and not searched:
        raise BadInput(f"{where(space)}: contract.global_batch_size is missing")


def refuse_simulation(framework: str, context: RenderContext) -> None:
    """BadInput when a simulated run is asked for: only Megatron's program has a simulator."""
    if context.simulated:
        raise BadInput(
            f"{framework} has no simulated cluster (Megatron's spaces have one). Run this space "
            "where its GPUs are, or look at its predictions with `autotune plan`."
        )


def refuse_profiler(
    framework: str, context: RenderContext, able: Collection[str], why: str
) -> None:
    """BadInput when a profiler is asked for that the framework's programs cannot switch on."""
    if context.profiler is not None and context.profiler not in able:
        raise BadInput(f"{framework} has no --with {context.profiler}: {why}")


def fact(space: SearchSpace, config: Config, name: str, default: Any = None) -> Any:
    """A contract key's value: from the config where the space searches it, else locked."""
    value = config.values.get(name)
    if value is None:
        value = getattr(space.contract, name, None)
    return default if value is None else value


def setting(space: SearchSpace, config: Config, name: str, default: Any = None) -> Any:
    """A value that may be searched or fixed: the parameter's, else the option's, else `default`."""
    value = config.get(name)
    return space.options.get(name, default) if value is None else value


def user_path(space: SearchSpace, option: str) -> str:
    """The path that an option names, as `located` finds it."""
    return located(space, str(space.options[option]))


def located(space: SearchSpace, path: str) -> str:
    """A user's path; a relative one is looked for beside the space file."""
    found = Path(path).expanduser()
    folder = space.working_directory
    if not found.is_absolute() and folder is not None:
        found = Path(folder) / found
    return str(found)
