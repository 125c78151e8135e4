"""DeepSpeed: a config becomes a complete `ds_config.json` and one process per rank.

The ranks find each other through RANK and its kin, so that no `deepspeed` launcher and no ssh
is needed; that launcher is for the export. Throughput is never taken from DeepSpeed's own
SamplesPerSec, which is too high by the AutoTP size: the runner prints true tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

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
    user_path,
    where,
)
from autotune.logs import LogFormat
from autotune.space.rule import Rule
from autotune.trial import Job

if TYPE_CHECKING:
    from autotune.space import SearchSpace

RUNNER = "deepspeed_sft"
CONFIG_FILE = "ds_config.json"

ZERO_KEYS: Mapping[str, Allowed] = {
    "zero_stage": (0, 1, 2, 3),
    "overlap_comm": bool,
    "reduce_scatter": bool,
    "contiguous_gradients": bool,
    "allgather_partitions": bool,
    "round_robin_gradients": bool,
    "reduce_bucket_size": int,
    "allgather_bucket_size": int,
    "sub_group_size": int,
    "stage3_prefetch_bucket_size": int,
    "stage3_param_persistence_threshold": int,
    "stage3_max_live_parameters": int,
    "stage3_max_reuse_distance": int,
}
"""Keys of `zero_optimization` that are parameters under the same name, but for the stage."""

OFFLOADS = ("offload_optimizer", "offload_param")
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
"""Contract names -> DeepSpeed's; its `Adam` decouples weight decay too, as Megatron's does."""

PARAMETERS: Mapping[str, Allowed] = {
    "tensor_model_parallel_size": int,
    "micro_batch_size": int,
    "global_batch_size": int,
    "seq_length": int,
    "precision": ("fp32", "fp16", "bf16"),
    "optimizer": tuple(OPTIMIZERS),
    "torch_adam": bool,
    **dict.fromkeys(OFFLOADS, bool),
    **ZERO_KEYS,
    **sft.PARAMETERS,
}
OPTIONS = (
    *sft.OPTIONS, "load", "learning_rate", "weight_decay", "betas", "eps", "momentum",
    "gradient_clipping", "torch_adam", "wall_clock_breakdown", "ds_config",
)  # fmt: skip


def ds_config(space: SearchSpace, config: Config) -> dict[str, Any]:
    """The whole DeepSpeed config of one point. BadInput where `options.ds_config` contradicts it.

    `train_batch_size` is left out under AutoTP: DeepSpeed multiplies the micro batch with all
    ranks there, tensor-parallel ones included, and would refuse the true figure.
    """
    tensor_parallel = int(config.get("tensor_model_parallel_size") or 1)
    result: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": config["micro_batch_size"],
        "gradient_accumulation_steps": config["gradient_accumulation_steps"],
        "zero_optimization": _zero_optimization(config),
        "optimizer": _optimizer(space, config),
        **_precision(str(fact(space, config, "precision", "fp32"))),
        "gradient_clipping": space.options.get("gradient_clipping", 1.0),
        "steps_per_print": 1,
        "log_level": "info",
        "wall_clock_breakdown": bool(space.options.get("wall_clock_breakdown", False)),
    }
    if tensor_parallel > 1:
        result["tensor_parallel"] = {"autotp_size": tensor_parallel}
    else:
        result["train_batch_size"] = fact(space, config, "global_batch_size")
    if config.get("offload_optimizer", False) and _torch_adam(space, config):
        result["zero_force_ds_cpu_optimizer"] = False
    return _with_users_keys(space, result)


def _zero_optimization(config: Config) -> dict[str, Any]:
    zero = {_key(name): config[name] for name in ZERO_KEYS if config.get(name) is not None}
    offload = {"device": "cpu", "pin_memory": True}
    return {"stage": 0, **zero, **{name: offload for name in OFFLOADS if config.get(name, False)}}


def _key(name: str) -> str:
    return "stage" if name == "zero_stage" else name


def _torch_adam(space: SearchSpace, config: Config) -> bool:
    return bool(setting(space, config, "torch_adam", True))


def _optimizer(space: SearchSpace, config: Config) -> dict[str, Any]:
    name = str(fact(space, config, "optimizer", "adamw"))
    options = space.options
    parameters: dict[str, Any] = {
        "lr": float(options.get("learning_rate", 1e-5)),
        "weight_decay": float(options.get("weight_decay", 0.0)),
    }
    if name == "sgd":
        parameters["momentum"] = float(options.get("momentum", 0.0))
    else:
        parameters["betas"] = list(options.get("betas", (0.9, 0.999)))
        parameters["eps"] = float(options.get("eps", 1e-8))
        parameters["torch_adam"] = _torch_adam(space, config)
    return {"type": OPTIMIZERS[name], "params": parameters}


def _precision(precision: str) -> dict[str, Any]:
    return {name: {"enabled": name == precision} for name in ("bf16", "fp16")}


def _with_users_keys(space: SearchSpace, ours: dict[str, Any]) -> dict[str, Any]:
    extra = space.options.get("ds_config", {})
    if not isinstance(extra, Mapping):
        raise BadInput("options.ds_config: a mapping of DeepSpeed's own keys is wanted")
    taken = sorted(set(extra) & set(ours) | set(extra) & {"train_batch_size", "tensor_parallel"})
    if taken:
        raise BadInput(f"options.ds_config: {', '.join(taken)} is set from the space itself")
    return {**ours, **extra}


def _ignored(zero: str) -> Iterator[tuple[str, str]]:
    """Rules for keys that DeepSpeed reads and ignores at some stages."""
    for name, kind in ZERO_KEYS.items():
        if name.startswith("stage3_"):
            yield f"{name} is None or {zero} == 3", "only ZeRO-3 gathers parameters"
        elif kind is bool:
            yield f"not {name} or {zero} >= 1", "ZeRO-0 ignores it"
        elif name != "zero_stage":
            yield f"{name} is None or {zero} >= 1", "ZeRO-0 ignores it: when: zero_stage >= 1"


def _refuse_inflated_metric(space: SearchSpace) -> None:
    """BadInput where AutoTP would be ranked by DeepSpeed's own samples per second."""
    sizes = space.choices.get("tensor_model_parallel_size", ())
    metric = space.metric.format if space.metric is not None else None
    if metric in ("deepspeed", "auto") and any(size != 1 for size in sizes):
        raise BadInput(
            f"{where(space)}: metric.format {metric}: DeepSpeed's SamplesPerSec is too high by the "
            "AutoTP size. Leave metric out with the shipped runner, or give a pattern that reads "
            "step times or true tokens."
        )


class DeepSpeed:
    """The framework's members, see :class:`autotune.frameworks.Framework`."""

    name = "deepspeed"

    def rules(self, space: SearchSpace) -> tuple[Rule, ...]:
        """What DeepSpeed refuses, or would silently ignore."""
        refuse_unknown(space, self.name, PARAMETERS, OPTIONS)
        need_batch(space)
        _refuse_inflated_metric(space)
        zero = "zero_stage" if "zero_stage" in space.parameters else "0"
        rules = [
            (f"{zero} < 3 or tensor_model_parallel_size == 1", "AutoTP is off under ZeRO-3"),
            (f"not offload_optimizer or {zero} >= 1", "optimizer offload needs ZeRO-1 or more"),
            (f"not offload_param or {zero} == 3", "parameter offload needs ZeRO-3"),
            *_ignored(zero),
            *sft.RULES,
        ]
        if space.model is not None:
            rules.append(
                (
                    "num_query_groups % tensor_model_parallel_size == 0",
                    "AutoTP cuts attention by key/value heads",
                )
            )
        return tuple(Rule(expression, reason, self.name) for expression, reason in rules)

    def render(self, space: SearchSpace, config: Config, context: RenderContext) -> Job:
        """One process per rank; its files are the config and, where none is given, the model."""
        refuse_unknown(space, self.name, PARAMETERS, OPTIONS, config)
        refuse_simulation(self.name, context)
        model, files = sft.model_argument(space, config, context.trial_dir)
        files[CONFIG_FILE] = json.dumps(ds_config(space, config), indent=2) + "\n"
        steps = steps_of(space, context)
        argv = [
            context.python, sft.runner_program(space, RUNNER),
            "--model", model, "--deepspeed", str(context.trial_dir / CONFIG_FILE),
            "--steps", str(steps), *sft.runner_arguments(space, config, context),
        ]  # fmt: skip
        if context.purpose == "export" and space.options.get("load") is not None:
            argv += ["--load", user_path(space, "load")]
        cpu = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"} if sft.on_cpu(space) else {}
        why = "the cluster has no accelerator"
        return gang_job(space, config, context, argv, files, steps=steps, own_env=cpu, why=why)

    def log_format(self, space: SearchSpace) -> LogFormat:
        """The runner's own lines; what `metric` says for a runner of the user's."""
        return format_of(space, "sft")

    def read_back(self, space: SearchSpace, job: Job) -> Mapping[str, ParameterValue]:
        """Canonical values in `ds_config.json` and the arguments."""
        given = json.loads(job.files[CONFIG_FILE])
        zero, optimizer = given["zero_optimization"], given["optimizer"]
        tensor_parallel = given.get("tensor_parallel", {}).get("autotp_size", 1)
        accumulation = given["gradient_accumulation_steps"]
        micro_batch = given["train_micro_batch_size_per_gpu"]
        values = sft.read_runner_arguments(job.argv)
        values |= {name: zero.get(_key(name)) for name in ZERO_KEYS}
        values |= {name: name in zero for name in OFFLOADS}
        enabled = [name for name in ("bf16", "fp16") if given[name]["enabled"]]
        values |= {
            "tensor_model_parallel_size": tensor_parallel,
            "micro_batch_size": micro_batch,
            "gradient_accumulation_steps": accumulation,
            "global_batch_size": micro_batch * accumulation * (job.world_size // tensor_parallel),
            "precision": enabled[0] if enabled else "fp32",
            "torch_adam": optimizer["params"].get("torch_adam"),
            "optimizer": next(k for k, v in OPTIMIZERS.items() if v == optimizer["type"]),
        }
        return values | read_environment(space, job.env)

    def checkpoint_note(self, space: SearchSpace, config: Config) -> str | None:
        """What the checkpoint of ``options.load`` needs; None when nothing is loaded.

        Hugging Face folders (``options.model_path``) are cut up at start and need nothing.
        """
        if not space.options.get("load"):
            return None
        source = user_path(space, "load")
        return (
            f"{source} can be loaded as it is if it was written under ZeRO-"
            f"{config.get('zero_stage', 0)}, AutoTP {config.get('tensor_model_parallel_size', 1)} "
            f"and {space.cluster.world_size} ranks. Else convert it first: python -m "
            f"deepspeed.checkpoint.ds_to_universal --input_folder {source}/global_stepN "
            f"--output_folder {source}/global_stepN_universal, and set options.ds_config: "
            "{checkpoint: {load_universal: true}}."
        )


FRAMEWORK = DeepSpeed()
