"""Plain PyTorch programs: every canonical name is a flag of the same name, nothing is mapped.

The runner is a folder under `runners/` with a `train.py`; what flags it takes, with which
values, and which of them go together, it says itself in a `flags.json` (its own, else the shared
`runners/torch_trainer/flags.json`). A training program of one's own is such a folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from autotune.config import Config, ParameterValue
from autotune.content import find_content
from autotune.errors import BadInput
from autotune.frameworks import RenderContext
from autotune.frameworks._environment import FROM_SPACE, space_environment, under_profiler
from autotune.frameworks._placeholders import written
from autotune.logs import LogFormat, get_format
from autotune.space import Rule, SearchSpace
from autotune.trial import Job

DEFAULT_RUNNER = "gpt_torch"
SHARED_FLAGS = "torch_trainer/flags.json"
LOG_FORMAT = "sft"
OPTIMIZERS = ("adamw",)
OPTIONS = ("flags", "without_gpu")
CONTRACT_FLAGS = ("global_batch_size", "seq_length", "precision")
SHAPE_FLAGS = (
    "num_layers",
    "hidden_size",
    "ffn_hidden_size",
    "num_attention_heads",
    "num_query_groups",
    "vocab_size",
    "rotary_base",
)
CACHE_FOLDER = "torchinductor_cache"


class TorchFramework:
    """`framework: torch`, runners `gpt_torch` and `llama_torch` or one's own."""

    name = "torch"

    def rules(self, space: SearchSpace) -> tuple[Rule, ...]:
        """The runner's own rules. BadInput for a flag or value that the runner does not take."""
        flags, rules = _runner_flags(space)
        where = str(space.source or space.name)
        for option in space.options:
            if option not in OPTIONS:
                raise BadInput.unknown("option of framework torch", option, OPTIONS, where)
        fixed = _fixed(space)
        for name in fixed:
            if name in space.parameters:
                raise BadInput(f"{where}: {name} is a parameter and in options.flags as well")
        offered = {**space.choices, **{name: (value,) for name, value in fixed.items()}}
        for name in CONTRACT_FLAGS:
            if getattr(space.contract, name) is not None:
                offered.setdefault(name, (getattr(space.contract, name),))
        for name, choices in offered.items():
            if name == "optimizer" and set(choices) <= set(OPTIMIZERS):
                continue
            if name not in flags:
                raise BadInput.unknown("parameter of this runner", name, flags, where)
            for choice in choices:
                _check_value(name, choice, flags[name], where)
        if space.contract.optimizer not in (None, *OPTIMIZERS):
            raise BadInput.unknown("optimizer", str(space.contract.optimizer), OPTIMIZERS, where)
        return tuple(Rule(rule["expression"], rule["reason"], self.name) for rule in rules)

    def render(self, space: SearchSpace, config: Config, context: RenderContext) -> Job:
        """One process, or one per GPU of the cluster. BadInput on a simulated cluster."""
        if context.simulated:
            raise BadInput("plain PyTorch has no simulated cluster: it trains on this machine")
        flags, _ = _runner_flags(space)
        argv = [context.python, str(_program(space))]
        sources: dict[str, str] = {}
        for name, value, source in _settings(space, config, context):
            _check_value(name, value, flags[name], str(space.source or space.name))
            argv += ["--" + name.replace("_", "-"), written(value)]
            sources["--" + name.replace("_", "-")] = source
        environment = dict(_environment(space, config, context))
        return Job(
            argv=under_profiler(argv, context, ranks=space.cluster.world_size > 1),
            env=environment,
            per="rank" if space.cluster.world_size > 1 else "job",
            nodes=space.cluster.nodes,
            gpus_per_node=space.cluster.gpus_per_node,
            time_limit_s=space.trial.time_limit_s,
            total_steps=_steps(space, context, flags),
            sources=sources | dict.fromkeys(environment, FROM_SPACE),
        )

    def log_format(self, space: SearchSpace) -> LogFormat:
        """The shipped runners print one line a step, with true tokens."""
        return get_format(LOG_FORMAT)

    def read_back(self, space: SearchSpace, job: Job) -> Mapping[str, ParameterValue]:
        """Every flag of the command line as a canonical value."""
        flags, _ = _runner_flags(space)
        start = job.argv.index(str(_program(space))) + 1
        pairs = zip(job.argv[start::2], job.argv[start + 1 :: 2], strict=True)
        found = {flag.removeprefix("--").replace("-", "_"): text for flag, text in pairs}
        return {name: _read(text, flags[name]) for name, text in found.items()}


def _program(space: SearchSpace) -> Path:
    """The runner's `train.py`; BadInput when there is no such runner."""
    name = space.runner or DEFAULT_RUNNER
    found = find_content("runners", f"{name}/train.py")
    if found is None:
        raise BadInput(
            f"{space.source or space.name}: runner {name!r}: no runners/{name}/train.py here, "
            "in $AUTOTUNE_PATH or among the shipped ones"
        )
    return found


def _runner_flags(space: SearchSpace) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The runner's flags by canonical name, and its rules."""
    own = _program(space).with_name("flags.json")
    path = own if own.is_file() else find_content("runners", SHARED_FLAGS)
    if path is None:
        raise BadInput(f"{own}: missing, and so is the shared {SHARED_FLAGS}")
    return _read_flags(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read_flags(path: Path, _: int) -> tuple[dict[str, Any], list[dict[str, str]]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return dict(data["flags"]), list(data.get("rules", ()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not a list of flags: {error!r}") from error


def _check_value(name: str, value: ParameterValue, flag: Mapping[str, Any], where: str) -> None:
    """BadInput when the runner does not take this value; None (not told) always passes."""
    if value is None:
        return
    if "choices" in flag:
        if value not in flag["choices"]:
            raise BadInput.unknown(f"value of {name}", str(value), flag["choices"], where)
        return
    types = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
    wanted = types[flag["type"]]
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise BadInput(
            f"{where}: {name}={value!r}: the runner takes a value of type {flag['type']}"
        )


def _read(text: str, flag: Mapping[str, Any]) -> ParameterValue:
    kind = flag.get("type", "str")
    if kind == "bool":
        return text == "true"
    return int(text) if kind == "int" else float(text) if kind == "float" else text


def _fixed(space: SearchSpace) -> dict[str, ParameterValue]:
    """`options.flags`: flags of the runner that are set and not searched."""
    fixed = space.options.get("flags", {})
    if not isinstance(fixed, dict):
        raise BadInput(f"{space.source or space.name}: options.flags: a mapping of flag to value")
    return fixed


def _settings(
    space: SearchSpace, config: Config, context: RenderContext
) -> Iterator[tuple[str, ParameterValue, str]]:
    """(canonical name, value, where it came from), each name once; what is not told is left out."""
    flags, _ = _runner_flags(space)
    told: dict[str, tuple[ParameterValue, str]] = {}
    for name in SHAPE_FLAGS:
        if space.model is not None and name in flags:
            told[name] = (getattr(space.model, name), "model")
    for name in CONTRACT_FLAGS:
        told[name] = (getattr(space.contract, name), "contract")
    told.update({name: (value, "options.flags") for name, value in _fixed(space).items()})
    told.update({name: (value, "parameter") for name, value in config.values.items()})
    told.pop("optimizer", None)
    told["steps"] = (_steps(space, context, flags), "trial.steps")
    told["seed"] = (context.seed, "autotune")
    if context.profiler is not None:
        told["profiler"] = (context.profiler, "autotune profile")
        told["profile_dir"] = (str(context.trial_dir / "profile"), "autotune profile")
    for name, (value, source) in told.items():
        if value is not None:
            yield name, value, source


def _steps(space: SearchSpace, context: RenderContext, flags: Mapping[str, Any]) -> int:
    return int(context.steps or space.trial.steps or flags["steps"]["default"])


def _environment(
    space: SearchSpace, config: Config, context: RenderContext
) -> Iterator[tuple[str, str]]:
    """The space's variables; a trial's compiled kernels are kept beside the study's trials."""
    if context.purpose == "trial":
        yield "TORCHINDUCTOR_CACHE_DIR", str(context.trial_dir.parent.parent / CACHE_FOLDER)
    yield from space_environment(space, config).items()


FRAMEWORK = TorchFramework()
