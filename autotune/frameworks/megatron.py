"""Megatron-LM's pretrain_gpt.py: a config becomes its flags, and its flags a config again.

Three programs take the same argument vector: the real ``pretrain_gpt.py`` of a checkout named
by ``options.megatron_lm_dir``, a small GPT on the `megatron-core` wheel (runner
``megatron_core``), and the simulated cluster, which stands in where there is no GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.config import Config, ParameterValue
from autotune.content import find_content
from autotune.errors import BadInput
from autotune.frameworks import RenderContext
from autotune.frameworks import _megatron_arguments as arguments
from autotune.frameworks import _megatron_flags as flags
from autotune.frameworks._environment import environment_only, read_environment
from autotune.frameworks._gang import DEFAULT_STEPS, format_of, gang_job
from autotune.frameworks._megatron_rules import RULES
from autotune.frameworks._space import need_batch, refuse_profiler, user_path, where
from autotune.logs import LogFormat
from autotune.trial import Job

if TYPE_CHECKING:
    from autotune.space import Rule, SearchSpace
    from autotune.space.model import ModelShape

RUNNERS = ("pretrain_gpt", "megatron_core", "simulated")
CLUSTER_FILE = "simulated_cluster.json"
CHECKOUT = "Megatron-LM"
"""Where an export expects a checkout (or a link to one) when the space names none."""
_CONNECTIONS = "CUDA_DEVICE_MAX_CONNECTIONS"


class Megatron:
    """Megatron-LM core_v0.12 and later, started once per GPU."""

    name = "megatron"
    simulates = True

    def rules(self, space: SearchSpace) -> tuple[Rule, ...]:
        """What Megatron-LM refuses; BadInput for what it has no word for, before anything starts.

        Where the framework is itself a parameter, names may belong to another one, and only
        the contract is looked at here.
        """
        _model(space)
        need_batch(space)
        contract = {key: value for key, value in _contract(space).items() if key != "seq_length"}
        flags.render_parameters(contract)
        if len(space.frameworks) == 1:
            elsewhere = {"framework", "seq_length", *environment_only(space, flags.KNOWN)}
            offered = {k: v for k, v in space.choices.items() if k not in elsewhere}
            flags.check_names(tuple(offered))
            for name, values in offered.items():
                for value in values:
                    flags.render_parameters({name: value})
            arguments.check_options(space.options)
        return RULES

    def render(self, space: SearchSpace, config: Config, context: RenderContext) -> Job:
        """The job of one config: one process per GPU, or one that simulates all of them."""
        model, runner = _model(space), _runner(space, context)
        able = () if runner == "simulated" else ("torch", "nsys")
        refuse_profiler(self.name, context, able, "a simulated cluster has nothing to profile")
        steps = context.steps or space.trial.steps or DEFAULT_STEPS
        values = _values(space, config)
        seq_length = int(str(values.pop("seq_length")))
        argv = [
            *arguments.model_arguments(model, seq_length),
            *flags.render_parameters(values),
            *arguments.schedule_arguments(space, context, steps),
            *arguments.data_arguments(space, model, context, mock=runner == "simulated"),
            *arguments.extra_arguments(space.options),
        ]
        files: dict[str, str] = {}
        python = context.python
        if runner == "simulated":
            files[CLUSTER_FILE] = _cluster_json(space)
            argv += _simulation(context)
            python = sys.executable
        job = gang_job(
            space,
            config,
            context,
            (python, _program(space, runner, context), *argv),
            files,
            steps=steps if context.purpose == "trial" else None,
            own_env={_CONNECTIONS: "1"},
            why="Megatron-LM requires 1 under tensor or context parallelism",
            per="job" if runner == "simulated" else "rank",
        )
        return replace(
            job,
            time_compression=context.time_compression if runner == "simulated" else 1.0,
            sources={**_sources(space, config, argv), **job.sources},
        )

    def passes_on(self, space: SearchSpace) -> frozenset[str]:
        """Sizes of a space that reach the program, so that a smaller job can be rendered."""
        return frozenset({"global_batch_size", "num_layers"})

    def log_format(self, space: SearchSpace) -> LogFormat:
        """Megatron-LM's iteration lines; what `metric` says for a program of the user's own."""
        return format_of(space, "megatron")

    def read_back(self, space: SearchSpace, job: Job) -> Mapping[str, ParameterValue]:
        """Canonical values as the argument vector says them."""
        given = flags.split_arguments(job.argv)
        values = flags.read_parameters(job.argv)
        values["seq_length"] = int(given["--seq-length"][0])
        values["framework"] = self.name
        return values | read_environment(space, job.env)

    def checkpoint_note(self, space: SearchSpace, config: Config) -> str | None:
        """What happens to the checkpoint named by ``options.load`` when the export runs.

        None when nothing is loaded. Distributed checkpoints (``torch_dist``, Megatron-LM's
        default) are resharded while they are loaded; the old ``torch`` format is bound to one
        layout and has to be converted.
        """
        source = space.options.get("load")
        if not source:
            return None
        tensor = config.get("tensor_model_parallel_size", 1)
        pipeline = config.get("pipeline_model_parallel_size", 1)
        if space.options.get("ckpt_format", "torch_dist") != "torch":
            return f"{source} is resharded to TP {tensor}, PP {pipeline} while it is loaded."
        return (
            f"Convert {source} to TP {tensor}, PP {pipeline} first, in the Megatron-LM checkout: "
            "python tools/checkpoint/convert.py --model-type GPT --loader mcore --saver mcore "
            f"--target-tensor-parallel-size {tensor} --target-pipeline-parallel-size {pipeline} "
            f"--load-dir {source} --save-dir {source}_tp{tensor}_pp{pipeline}; then give the "
            f"script --load {source}_tp{tensor}_pp{pipeline}"
        )


FRAMEWORK = Megatron()


def _model(space: SearchSpace) -> ModelShape:
    if space.model is None:
        raise BadInput(f"{where(space)}: model: Megatron-LM needs the model's shape; add it.")
    if space.contract.seq_length is None and "seq_length" not in space.parameters:
        raise BadInput(f"{where(space)}: contract.seq_length: Megatron-LM needs it; add it.")
    return space.model


def _contract(space: SearchSpace) -> dict[str, ParameterValue]:
    """What the contract says, or Megatron-LM's usual where it is silent (its adam is AdamW)."""
    contract = space.contract
    return {
        "global_batch_size": contract.global_batch_size,
        "seq_length": contract.seq_length,
        "precision": contract.precision or "bf16",
        "optimizer": "adam" if contract.optimizer in (None, "adamw") else contract.optimizer,
    }


def _values(space: SearchSpace, config: Config) -> dict[str, ParameterValue]:
    """The config's active values and the contract's, under canonical names."""
    values = _contract(space)
    values |= {name: value for name, value in config.values.items() if value is not None}
    elsewhere = {"framework", *environment_only(space, flags.KNOWN)}
    return {name: value for name, value in values.items() if name not in elsewhere}


def _runner(space: SearchSpace, context: RenderContext) -> str:
    if context.simulated and context.purpose == "trial":
        return "simulated"
    runner = space.runner or "pretrain_gpt"
    if runner not in RUNNERS:
        raise BadInput.unknown("runner", runner, RUNNERS, where=f"{where(space)}: runner")
    return runner


def _program(space: SearchSpace, runner: str, context: RenderContext) -> str:
    """The path of the program; an export may be made where its Megatron-LM is not.

    Without ``options.megatron_lm_dir`` an export expects the checkout, or a link to it, as
    ``Megatron-LM`` in its own folder.
    """
    if runner != "pretrain_gpt":
        found = find_content("runners", f"{runner}/train.py")
        if found is None:
            raise BadInput(f"runners/{runner}/train.py was not found; reinstall autotune.")
        return str(found)
    folder = user_path(space, "megatron_lm_dir") if space.options.get("megatron_lm_dir") else None
    if context.purpose == "export":
        return str(Path(folder or context.trial_dir / "Megatron-LM") / "pretrain_gpt.py")
    if not folder:
        raise BadInput(
            f"{where(space)}: options.megatron_lm_dir is not set: name a checkout "
            "of https://github.com/NVIDIA/Megatron-LM (core_v0.12 or later), for instance with "
            "--set options.megatron_lm_dir=/opt/Megatron-LM, or use the simulated cluster."
        )
    program = Path(folder) / "pretrain_gpt.py"
    if not program.is_file():
        raise BadInput(
            f"{program}: no such file. options.megatron_lm_dir has to be a checkout of "
            "Megatron-LM, on every node under the same path."
        )
    return str(program)


def _cluster_json(space: SearchSpace) -> str:
    if space.cluster.hardware is None:
        raise BadInput(
            f"{where(space)}: cluster: the simulated cluster needs to know its "
            "GPUs: set cluster.gpu to a name of search_spaces/hardware/."
        )
    return space.cluster.model_dump_json(indent=1)


def _simulation(context: RenderContext) -> list[str]:
    return [
        "--sim-cluster", str(context.trial_dir / CLUSTER_FILE),
        "--sim-seed", str(context.simulation_seed),
        "--sim-time-compression", repr(context.time_compression),
    ]  # fmt: skip


def _sources(space: SearchSpace, config: Config, argv: list[str]) -> dict[str, str]:
    """Where each flag and variable came from, for people who look at a dry run."""
    model = space.model.name if space.model and space.model.name else "the space"
    sources = dict.fromkeys((item for item in argv if item.startswith("--")), "Megatron framework")
    for item in arguments.model_arguments(_model(space), 0):
        if item.startswith("--"):
            sources[item] = f"model {model}"
    for flag in flags.FLAGS:
        if config.get(flag.name) is not None and flag.flag in sources:
            sources[flag.flag] = f"parameter {flag.name}"
    for name in space.options:
        item = f"--{name.replace('_', '-')}"
        if item in sources:
            sources[item] = f"options.{name}"
    for item in arguments.extra_arguments(space.options):
        if item.startswith("--"):
            sources[item] = "options.extra_args"
    contract = ("--global-batch-size", "--seq-length", "--bf16", "--fp16", "--optimizer")
    for item in contract:
        if sources.get(item) == "Megatron framework" or item == "--seq-length":
            sources[item] = "contract"
    return sources
