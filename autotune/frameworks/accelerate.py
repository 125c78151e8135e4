"""Hugging Face accelerate: time to train, in miniature.

With `objective.metric: time_to_target_s` a run has two fidelities: the throughput over
`trial.steps` steps, the cheap first look, and all steps until the evaluation loss meets
`objective.target`. A job is one process per rank, as every launcher places it and so that each
rank's end is seen; `accelerate launch` would start ranks of its own below one process a node. It
is what `autotune export --format accelerate` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from autotune.config import Config, ParameterValue
from autotune.errors import BadInput
from autotune.frameworks import RenderContext
from autotune.frameworks import _sft_runner as sft
from autotune.frameworks._environment import read_environment
from autotune.frameworks._gang import format_of, gang_job, steps_of
from autotune.frameworks._space import (
    Allowed,
    fact,
    need_batch,
    refuse_simulation,
    refuse_unknown,
    setting,
    where,
)
from autotune.logs import LogFormat
from autotune.space.rule import Rule
from autotune.trial import Fidelity, Job

if TYPE_CHECKING:
    from autotune.space import SearchSpace

RUNNER = "accelerate_ttt"
MIXED_PRECISION: Mapping[str, str] = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}
DERIVED = ("gradient_accumulation_steps",)
NUMBERS: Mapping[str, tuple[str, type]] = {
    "micro_batch_size": ("--micro-batch-size", int),
    "gradient_accumulation_steps": ("--gradient-accumulation-steps", int),
    "learning_rate": ("--learning-rate", float),
    "warmup_steps": ("--warmup-steps", int),
    "eval_interval": ("--eval-interval", int),
}
"""Numbers that a space may search or fix under `options`; the accumulation is derived."""
PARAMETERS: Mapping[str, Allowed] = {
    **{name: kind for name, (_, kind) in NUMBERS.items() if name not in DERIVED},
    "param_dtype": ("fp32", "bf16"),
    "global_batch_size": int,
    "seq_length": int,
    "precision": tuple(MIXED_PRECISION),
    "optimizer": ("adafactor", "adamw", "sgd"),
    **sft.PARAMETERS,
}
OPTIONS = (
    *sft.OPTIONS, "learning_rate", "warmup_steps", "eval_interval", "eval_batch_size",
    "param_dtype", "max_steps",
)  # fmt: skip
DEFAULT_MAX_STEPS = 10_000


def _numbers(space: SearchSpace, config: Config) -> list[str]:
    arguments = []
    for name, (flag, kind) in NUMBERS.items():
        value = setting(space, config, name)
        if value is None:
            continue
        arguments += [flag, repr(kind(value))]
    return arguments


def _fidelity(space: SearchSpace, context: RenderContext) -> tuple[list[str], int | None]:
    """Arguments that say when to stop, and the number of steps where it is known beforehand."""
    timed = space.objective.metric == "time_to_target_s"
    if not timed or context.fidelity == "throughput" or context.steps is not None:
        steps = steps_of(space, context)
        return ["--max-steps", str(steps)], steps
    if space.objective.target is None:
        raise BadInput(f"{where(space)}: objective.target: the loss to reach")
    limit = str(space.options.get("max_steps", DEFAULT_MAX_STEPS))
    return ["--max-steps", limit, "--target-loss", repr(float(space.objective.target))], None


class Accelerate:
    """The framework's members, see :class:`autotune.frameworks.Framework`."""

    name = "accelerate"

    def first_fidelity(self, space: SearchSpace) -> Fidelity:
        """A time to train is searched by throughput first."""
        return "throughput" if space.objective.metric == "time_to_target_s" else "full"

    def rules(self, space: SearchSpace) -> tuple[Rule, ...]:
        """What the runner would ignore: replicas are all that is laid out here."""
        refuse_unknown(space, self.name, PARAMETERS, OPTIONS)
        need_batch(space)
        return tuple(Rule(expression, reason, self.name) for expression, reason in sft.RULES)

    def render(self, space: SearchSpace, config: Config, context: RenderContext) -> Job:
        """One process per rank, with the environment that `accelerate launch` would set."""
        refuse_unknown(space, self.name, PARAMETERS, OPTIONS, config)
        refuse_simulation(self.name, context)
        model, files = sft.model_argument(space, config, context.trial_dir)
        stop, steps = _fidelity(space, context)
        program = [
            sft.runner_program(space, RUNNER), "--model", model,
            *_numbers(space, config), *self._words(space, config), *stop,
            *sft.runner_arguments(space, config, context),
        ]  # fmt: skip
        cpu = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        return gang_job(
            space,
            config,
            context,
            [context.python, *program],
            files,
            steps=steps,
            own_env=cpu if sft.on_cpu(space) else {},
            why="the cluster has no accelerator",
        )

    def _words(self, space: SearchSpace, config: Config) -> list[str]:
        precision = str(fact(space, config, "precision", "fp32"))
        optimizer = str(fact(space, config, "optimizer", "adamw"))
        arguments = ["--mixed-precision", MIXED_PRECISION[precision], "--optimizer", optimizer]
        dtype = setting(space, config, "param_dtype")
        arguments += ["--param-dtype", dtype] if dtype is not None else []
        if "eval_batch_size" in space.options:
            arguments += ["--eval-batch-size", str(space.options["eval_batch_size"])]
        return arguments

    def log_format(self, space: SearchSpace) -> LogFormat:
        """The runner's own lines; what `metric` says for a runner of the user's."""
        return format_of(space, "sft")

    def read_back(self, space: SearchSpace, job: Job) -> Mapping[str, ParameterValue]:
        """Canonical values in the arguments."""
        given = sft.flag_values(job.argv)
        values = sft.read_runner_arguments(job.argv)
        for name, (flag, kind) in NUMBERS.items():
            text = given.get(flag)
            values[name] = None if text is None else kind(text)
        micro, accumulation = values["micro_batch_size"], values["gradient_accumulation_steps"]
        by_word = {word: name for name, word in MIXED_PRECISION.items()}
        values |= {
            "global_batch_size": int(micro or 0) * int(accumulation or 0) * job.world_size,
            "precision": by_word[given["--mixed-precision"] or "no"],
            "optimizer": given["--optimizer"],
            "param_dtype": given.get("--param-dtype"),
        }
        return values | read_environment(space, job.env)


FRAMEWORK = Accelerate()
