"""torchtitan (0.2.0 to 0.2.2): a config becomes its TOML, and one process per GPU.

Its models are flavours with fixed sizes, so the space's model has to be one of them. With
pipeline stages the local batch is all micro batches of a step, without it is one of them: the
accumulation follows from the global batch either way. Keys are checked against the real ones by
`scripts/check_rendered.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autotune.config import Config, ParameterValue
from autotune.errors import BadInput
from autotune.frameworks import RenderContext
from autotune.frameworks._environment import read_environment
from autotune.frameworks._gang import format_of, gang_job, steps_of
from autotune.frameworks._space import (
    Allowed,
    fact,
    need_batch,
    refuse_simulation,
    refuse_unknown,
    user_path,
    where,
)
from autotune.frameworks._toml import read_toml, write_toml
from autotune.logs import LogFormat
from autotune.space.rule import Rule
from autotune.trial import Job

if TYPE_CHECKING:
    from autotune.space import SearchSpace

CONFIG_FILE = "torchtitan.toml"
FLAVORS: Mapping[str, tuple[str, str]] = {
    "llama-3.1-8b": ("llama3", "8B"),
    "llama-3.1-70b": ("llama3", "70B"),
    "llama-3.1-405b": ("llama3", "405B"),
    "deepseek-v3": ("deepseek_v3", "671B"),
}
"""Model names of search_spaces/models/ -> (model.name, model.flavor)."""

SCHEDULES: Mapping[str, str] = {
    "1f1b": "1F1B",
    "gpipe": "GPipe",
    "interleaved_1f1b": "Interleaved1F1B",
    "zbv": "ZBVZeroBubble",
}
OPTIMIZERS: Mapping[str, str] = {"adam": "Adam", "adamw": "AdamW"}

PLAIN: Mapping[str, tuple[str, str, Allowed]] = {
    "tensor_model_parallel_size": ("parallelism", "tensor_parallel_degree", int),
    "pipeline_model_parallel_size": ("parallelism", "pipeline_parallel_degree", int),
    "context_parallel_size": ("parallelism", "context_parallel_degree", int),
    "expert_model_parallel_size": ("parallelism", "expert_parallel_degree", int),
    "data_parallel_replicate_size": ("parallelism", "data_parallel_replicate_degree", int),
    "fsdp_reshard_after_forward": (
        "parallelism", "fsdp_reshard_after_forward", ("default", "always", "never"),
    ),
    "async_tensor_parallel": ("parallelism", "enable_async_tensor_parallel", bool),
    "recompute_granularity": ("activation_checkpoint", "mode", ("none", "selective", "full")),
    "selective_ac_option": ("activation_checkpoint", "selective_ac_option", str),
    "torch_compile": ("compile", "enable", bool),
    "offload_param": ("training", "enable_cpu_offload", bool),
    "global_batch_size": ("training", "global_batch_size", int),
    "seq_length": ("training", "seq_len", int),
}  # fmt: skip
"""Canonical name -> table, key, and what it may be; the value stands there as it is."""

PARAMETERS: Mapping[str, Allowed] = {
    **{name: kind for name, (_, _, kind) in PLAIN.items()},
    "micro_batch_size": int,
    "pipeline_schedule": tuple(SCHEDULES),
    "precision": ("fp32", "bf16", "fp8"),
    "optimizer": tuple(OPTIMIZERS),
}
OPTIONS = (
    "torchtitan_version", "torchtitan_dir", "model_name", "model_flavor", "hf_assets_path",
    "dataset", "dataset_path", "learning_rate", "train_steps", "load", "save",
)  # fmt: skip
SEEDED_BY: Mapping[str, str] = {"0.2.0": "training", "0.2.1": "debug", "0.2.2": "debug"}
"""Version -> the table that holds the seed."""
FLOAT8 = "quantize.linear.float8"


def _flavor(space: SearchSpace) -> tuple[str, str]:
    """(model.name, model.flavor); BadInput for a model that torchtitan does not define."""
    given = space.options.get("model_name"), space.options.get("model_flavor")
    if given[0] and given[1]:
        return str(given[0]), str(given[1])
    name = space.model.name if space.model is not None else ""
    if name not in FLAVORS:
        raise BadInput(
            f"{where(space)}: torchtitan has no model {name!r}; it has {', '.join(FLAVORS)}. "
            "Set options.model_name and options.model_flavor for another of its own."
        )
    return FLAVORS[name]


def _version(space: SearchSpace) -> str:
    version = str(space.options.get("torchtitan_version", "0.2.2"))
    if version not in SEEDED_BY:
        place = f"{where(space)}: options.torchtitan_version"
        raise BadInput.unknown("version of torchtitan", version, SEEDED_BY, place)
    return version


def _batches(config: Config) -> dict[str, ParameterValue]:
    """The local batch: one micro batch, or all of a pipeline's."""
    micro, accumulation = config["micro_batch_size"], config["gradient_accumulation_steps"]
    if int(config.get("pipeline_model_parallel_size", 1) or 1) == 1:
        return {"local_batch_size": micro}
    return {"local_batch_size": int(micro or 0) * int(accumulation or 0)}


def tables(space: SearchSpace, config: Config, context: RenderContext) -> dict[str, dict[str, Any]]:
    """The TOML's tables for one config."""
    name, flavor = _flavor(space)
    options, export = space.options, context.purpose == "export"
    precision = str(fact(space, config, "precision", "bf16"))
    optimizer = OPTIMIZERS[str(fact(space, config, "optimizer", "adamw"))]
    result: dict[str, dict[str, Any]] = {
        "job": {"dump_folder": str(context.trial_dir / "outputs")},
        "metrics": {"log_freq": 1, "disable_color_printing": True},
        "model": {"name": name, "flavor": flavor},
        "optimizer": {"name": optimizer, "lr": float(options.get("learning_rate", 3e-4))},
        "lr_scheduler": {"warmup_steps": 2},
        "training": {
            "steps": steps_of(space, context),
            "mixed_precision_param": "float32" if precision == "fp32" else "bfloat16",
            "dataset": str(options.get("dataset", "c4_test")),
            **_batches(config),
        },
        "parallelism": {"data_parallel_shard_degree": _shards(config)},
        "checkpoint": {"enable": False},
        "activation_checkpoint": {"mode": "none"},
        "compile": {"enable": False},
    }
    result.setdefault(SEEDED_BY[_version(space)], {})["seed"] = context.seed
    for parameter, (table, key, _) in PLAIN.items():
        value = fact(space, config, parameter)
        if value is not None:
            result[table][key] = value
    schedule = config.get("pipeline_schedule")
    if schedule is not None:
        result["parallelism"]["pipeline_parallel_schedule"] = SCHEDULES[str(schedule)]
    if int(config.get("pipeline_model_parallel_size", 1) or 1) > 1:
        result["parallelism"]["pipeline_parallel_microbatch_size"] = config["micro_batch_size"]
    for option, table in (("hf_assets_path", "model"), ("dataset_path", "training")):
        if option in options:
            result[table][option] = user_path(space, option)
    if precision == "fp8":
        result["model"]["converters"] = [FLOAT8]
        result[FLOAT8] = {"enable_fsdp_float8_all_gather": True, "filter_fqns": ["output"]}
    if export and (options.get("save") or options.get("load")):
        result["checkpoint"] = {"enable": True, **_checkpoint(space)}
    if context.profiler == "torch":
        result["profiling"] = {"enable_profiling": True, "profile_freq": 6}
    return result


def _checkpoint(space: SearchSpace) -> dict[str, str]:
    found = {"folder": "save", "initial_load_path": "load"}
    return {key: user_path(space, one) for key, one in found.items() if space.options.get(one)}


def _shards(config: Config) -> int:
    replicas = int(config.get("data_parallel_replicate_size", 1) or 1)
    return int(config["data_parallel_size"] or 1) // replicas


class TorchTitan:
    """The framework's members, see :class:`autotune.frameworks.Framework`."""

    name = "torchtitan"

    def rules(self, space: SearchSpace) -> tuple[Rule, ...]:
        """What torchtitan refuses at start."""
        refuse_unknown(space, self.name, PARAMETERS, OPTIONS)
        need_batch(space)
        _flavor(space)
        _version(space)
        rules = [
            ("num_attention_heads % tensor_model_parallel_size == 0", "TP cuts heads"),
            ("num_query_groups % tensor_model_parallel_size == 0", "... and key/value heads"),
            ("seq_length % (2 * context_parallel_size * tensor_model_parallel_size) == 0",
             "the sequence is cut evenly, twice for balance"),
            ("not async_tensor_parallel or tensor_model_parallel_size > 1", "it overlaps TP"),
            ("pipeline_schedule is None or pipeline_model_parallel_size > 1", "no stages"),
            ("data_parallel_size % data_parallel_replicate_size == 0", "replicas of equal shards"),
            ("pipeline_model_parallel_size <= num_layers", "a stage holds a layer"),
            ("expert_model_parallel_size == 1 or (num_experts is not None"
             " and num_experts % expert_model_parallel_size == 0)", "ranks share experts evenly"),
            ("selective_ac_option is None or (recompute_granularity is not None"
             " and recompute_granularity == 'selective')", "other modes ignore it"),
            ("precision != 'fp8' or gpu_has_fp8", "the GPU has no FP8 products"),
            ("pipeline_model_parallel_size == 1 or gradient_accumulation_steps"
             " % pipeline_model_parallel_size == 0", "stages take turns in whole rounds"),
        ]  # fmt: skip
        compiled = "torch_compile" if "torch_compile" in space.parameters else "False"
        rules.append((f"not async_tensor_parallel or {compiled}", "the compiler overlaps it"))
        return tuple(Rule(expression, reason, self.name) for expression, reason in rules)

    def render(self, space: SearchSpace, config: Config, context: RenderContext) -> Job:
        """``python -m torchtitan.train`` once per GPU."""
        refuse_unknown(space, self.name, PARAMETERS, OPTIONS, config)
        refuse_simulation(self.name, context)
        toml = write_toml(tables(space, config, context))
        argv = [context.python, "-m", "torchtitan.train"]
        argv += ["--job.config_file", str(context.trial_dir / CONFIG_FILE)]
        folder = user_path(space, "torchtitan_dir") if "torchtitan_dir" in space.options else None
        files = {CONFIG_FILE: toml}
        steps = steps_of(space, context)
        return gang_job(
            space, config, context, argv, files,
            steps=steps, own_env={}, cwd=folder, marks_range=False,
        )  # fmt: skip

    def log_format(self, space: SearchSpace) -> LogFormat:
        """torchtitan's own step lines."""
        return format_of(space, "torchtitan")

    def read_back(self, space: SearchSpace, job: Job) -> Mapping[str, ParameterValue]:
        """Canonical values in the TOML."""
        said = read_toml(job.files[CONFIG_FILE])
        values: dict[str, ParameterValue] = {
            name: said[table].get(key) for name, (table, key, _) in PLAIN.items()
        }
        parallelism, training = said["parallelism"], said["training"]
        micro = parallelism.get("pipeline_parallel_microbatch_size", training["local_batch_size"])
        schedule = parallelism.get("pipeline_parallel_schedule")
        low = "fp32" if training["mixed_precision_param"] == "float32" else "bf16"
        values |= {
            "micro_batch_size": micro,
            "pipeline_schedule": next((k for k, v in SCHEDULES.items() if v == schedule), None),
            "precision": "fp8" if FLOAT8 in said else low,
            "optimizer": next(k for k, v in OPTIMIZERS.items() if v == said["optimizer"]["name"]),
        }
        return values | read_environment(space, job.env)

    def checkpoint_note(self, space: SearchSpace, config: Config) -> str | None:
        """Distributed checkpoints fit every layout; None when nothing is loaded."""
        if not space.options.get("load"):
            return None
        return f"{user_path(space, 'load')} is resharded while it is loaded, whatever the layout."


FRAMEWORK = TorchTitan()
