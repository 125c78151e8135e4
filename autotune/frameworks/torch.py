"""Plain PyTorch programs: every canonical name is a flag of the same name, nothing is mapped.

The runner is a folder under `runners/` with a `train.py`; what flags it takes, with which
values, and which of them go together, it says itself in a `flags.json` (its own, else the shared
`runners/torch_trainer/flags.json`). A training program of one's own is such a folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from autotune.config import Config, ParameterValue
from autotune.content import find_content
from autotune.errors import BadInput
from autotune.frameworks import RenderContext
from autotune.frameworks._environment import read_environment
from autotune.frameworks._gang import format_of, gang_job, steps_of
from autotune.frameworks._placeholders import written
from autotune.frameworks._space import (
    Allowed,
    check_value,
    refuse_simulation,
    refuse_unknown,
    where,
)
from autotune.logs import LogFormat
from autotune.space import Rule, SearchSpace
from autotune.trial import Job

DEFAULT_RUNNER = "gpt_torch"
SHARED_FLAGS = "torch_trainer/flags.json"
OPTIMIZERS = ("adamw",)
OPTIONS = ("flags", "train_steps")
TYPES: Mapping[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
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
UNUSUAL = ("num_experts", "kv_lora_rank")
"""Sizes of a model that a program without a flag of that name does not build."""
CACHE_FOLDER = "torchinductor_cache"


class TorchFramework:
    """`framework: torch`, runners `gpt_torch` and `llama_torch` or one's own."""

    name = "torch"

    def rules(self, space: SearchSpace) -> tuple[Rule, ...]:
        """The runner's own rules. BadInput for a flag or value that the runner does not take."""
        runner = Runner.of(space)
        allowed = runner.allowed
        refuse_unknown(space, self.name, allowed, OPTIONS)
        runner.refuse_other_models(space)
        for name, value in _fixed(space).items():
            if name in space.parameters:
                raise BadInput(
                    f"{where(space)}: {name} is a parameter and in options.flags as well"
                )
            check_value(name, value, allowed, f"{where(space)}: options.flags")
        return tuple(Rule(r["expression"], r["reason"], self.name) for r in runner.rules)

    def render(self, space: SearchSpace, config: Config, context: RenderContext) -> Job:
        """One process, or one per GPU of the cluster. BadInput on a simulated cluster."""
        runner = Runner.of(space)
        refuse_unknown(space, self.name, runner.allowed, OPTIONS, config)
        refuse_simulation(self.name, context)
        argv = [context.python, str(runner.program)]
        sources: dict[str, str] = {}
        steps = steps_of(space, context, int(runner.flags["steps"]["default"]))
        for name, value, source in _settings(space, runner, config, context, steps):
            flag = "--" + name.replace("_", "-")
            argv += [flag, written(value)]
            sources[flag] = source
        kernels = {"TORCHINDUCTOR_CACHE_DIR": str(context.trial_dir.parent.parent / CACHE_FOLDER)}
        job = gang_job(
            space,
            config,
            context,
            argv,
            {},
            steps=steps,
            own_env=kernels if context.purpose == "trial" else {},
            why="compiled kernels are kept in the study",
            per="rank" if space.cluster.world_size > 1 else "job",
        )
        return replace(job, sources={**sources, **job.sources})

    def log_format(self, space: SearchSpace) -> LogFormat:
        """The shipped runners' lines, one a step; what `metric` says for a runner of the user's."""
        return format_of(space, "sft")

    def read_back(self, space: SearchSpace, job: Job) -> Mapping[str, ParameterValue]:
        """Every flag of the command line as a canonical value."""
        runner = Runner.of(space)
        start = job.argv.index(str(runner.program)) + 1
        pairs = zip(job.argv[start::2], job.argv[start + 1 :: 2], strict=True)
        found = {flag.removeprefix("--").replace("-", "_"): text for flag, text in pairs}
        values = {name: _read(text, runner.flags[name]) for name, text in found.items()}
        return {"optimizer": "adamw", **values} | read_environment(space, job.env)


@dataclass(frozen=True)
class Runner:
    """A training program and what it says of itself: its flags by canonical name, their rules."""

    program: Path
    flags: Mapping[str, Any]
    rules: Sequence[Mapping[str, str]]
    builds: Mapping[str, Mapping[str, ParameterValue]]

    @classmethod
    def of(cls, space: SearchSpace) -> Runner:
        """The space's runner; BadInput when there is none, or no list of its flags."""
        name = space.runner or DEFAULT_RUNNER
        program = find_content("runners", f"{name}/train.py")
        if program is None:
            raise BadInput(
                f"{where(space)}: runner {name!r}: no runners/{name}/train.py here, "
                "in $AUTOTUNE_PATH or among the shipped ones"
            )
        own = program.with_name("flags.json")
        path = own if own.is_file() else find_content("runners", SHARED_FLAGS)
        if path is None:
            raise BadInput(f"{own}: missing, and so is the shared {SHARED_FLAGS}")
        return cls(program, *_read_flags(path, path.stat().st_mtime_ns))

    @property
    def allowed(self) -> dict[str, Allowed]:
        """What the flags may be; the optimizer is AdamW."""
        kinds: dict[str, Allowed] = {
            name: tuple(flag["choices"]) if "choices" in flag else TYPES[flag["type"]]
            for name, flag in self.flags.items()
        }
        return {"optimizer": OPTIMIZERS, **kinds}

    def refuse_other_models(self, space: SearchSpace) -> None:
        """BadInput when the space's model is not of the kind that the program builds."""
        if space.model is None:
            return
        fixed = dict(self.builds.get(self.program.parent.name, {}))
        fixed |= {name: None for name in UNUSUAL if name not in self.flags}
        for name, built in fixed.items():
            wanted = getattr(space.model, name)
            if wanted != built:
                raise BadInput(
                    f"{where(space)}: model {space.model.name}: {name} is {wanted}, and "
                    f"{self.program} builds {built if built is not None else 'none'}"
                )


@lru_cache(maxsize=8)
def _read_flags(
    path: Path, _: int
) -> tuple[dict[str, Any], list[dict[str, str]], dict[str, dict[str, ParameterValue]]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return dict(data["flags"]), list(data.get("rules", ())), dict(data.get("builds", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not a list of flags: {error!r}") from error


def _read(text: str, flag: Mapping[str, Any]) -> ParameterValue:
    kind = flag.get("type", "str")
    if kind == "bool":
        return text == "true"
    return int(text) if kind == "int" else float(text) if kind == "float" else text


def _fixed(space: SearchSpace) -> dict[str, ParameterValue]:
    """`options.flags`: flags of the runner that are set and not searched."""
    fixed = space.options.get("flags", {})
    if not isinstance(fixed, dict):
        raise BadInput(f"{where(space)}: options.flags: a mapping of flag to value")
    return fixed


def _settings(
    space: SearchSpace, runner: Runner, config: Config, context: RenderContext, steps: int
) -> Iterator[tuple[str, ParameterValue, str]]:
    """(canonical name, value, where it came from), each name once; what is not told is left out."""
    told: dict[str, tuple[ParameterValue, str]] = {}
    for name in SHAPE_FLAGS:
        if space.model is not None and name in runner.flags:
            told[name] = (getattr(space.model, name), "model")
    for name in CONTRACT_FLAGS:
        told[name] = (getattr(space.contract, name), "contract")
    told.update({name: (value, "options.flags") for name, value in _fixed(space).items()})
    told.update(
        {
            name: (value, "parameter")
            for name, value in config.values.items()
            if name in runner.flags
        }
    )
    told["steps"] = (steps, "trial.steps")
    told["seed"] = (context.seed, "autotune")
    if context.profiler is not None:
        told["profiler"] = (context.profiler, "autotune profile")
        told["profile_dir"] = (str(context.trial_dir / "profile"), "autotune profile")
    for name, (value, source) in told.items():
        if value is not None:
            yield name, value, source


FRAMEWORK = TorchFramework()
