"""NeMo: LoRA fine-tuning told by YAML (NeMo 1 and its launcher) or by a recipe (NeMo 2).

A trial starts NeMo's own fine-tuning program once per GPU with a YAML that stands on NeMo's
defaults, the very call that the NeMo launcher ends in, so that any launcher of ours can place
it. An export adds the launcher's own form, `conf/peft/llama/autotune.yaml` on top of its
`squad.yaml`, and an sbatch script. With `options.nemo_version: 2` a Megatron-Bridge recipe is
rendered instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from autotune.config import Config, ParameterValue
from autotune.content import find_content
from autotune.errors import BadInput
from autotune.frameworks import RenderContext
from autotune.frameworks import _nemo_config as nemo
from autotune.frameworks._environment import read_environment
from autotune.frameworks._gang import format_of, gang_job, steps_of
from autotune.frameworks._nemo_scripts import launcher_script, sbatch_script
from autotune.frameworks._space import (
    fact,
    need_batch,
    refuse_simulation,
    refuse_unknown,
    where,
)
from autotune.logs import LogFormat
from autotune.space.rule import Rule
from autotune.trial import Job

if TYPE_CHECKING:
    from autotune.space import SearchSpace

CONFIG_NAME = "autotune"
TRIAL_FILE = f"conf/{CONFIG_NAME}.yaml"
LAUNCHER_FILE = f"conf/peft/llama/{CONFIG_NAME}.yaml"
RECIPE_FILE = "bridge_recipe.json"
PROGRAM = "examples/nlp/language_modeling/tuning/megatron_gpt_finetuning.py"
NEMO_DEFAULTS = "megatron_gpt_finetuning_config"
LAUNCHER_DEFAULTS = "llama/squad@_here_"

OPTIONS = (
    "nemo_version", "nemo_dir", "restore_from_path", "train_files", "validation_files",
    "lora_rank", "learning_rate", "train_steps", "results_dir", "recipe", "slurm",
    "launcher_scripts_path", "data_dir", "base_results_dir",
)  # fmt: skip
ENVIRONMENT = {"CUDA_DEVICE_MAX_CONNECTIONS": "1", "SLURM_JOB_NAME": "interactive"}
"""The second keeps Lightning, which would count Slurm's tasks, to RANK and LOCAL_RANK."""

_RULES = (
    ("num_attention_heads % tensor_model_parallel_size == 0", "tensor parallelism cuts heads"),
    ("num_query_groups % tensor_model_parallel_size == 0", "... and key/value heads"),
    ("num_layers % pipeline_model_parallel_size == 0", "pipeline stages hold equally many layers"),
    ("not sequence_parallel or tensor_model_parallel_size > 1", "it needs tensor parallelism"),
    ("recompute_method is None or recompute_granularity == 'full'", "methods belong to full"),
    (
        "recompute_num_layers <= num_layers // pipeline_model_parallel_size",
        "a stage has no more layers to recompute",
    ),
)


def _version(space: SearchSpace) -> int:
    version = space.options.get("nemo_version", 1)
    if version not in (1, 2):
        raise BadInput(f"{where(space)}: options.nemo_version is 1 or 2, not {version!r}")
    return int(version)


def _values(space: SearchSpace, config: Config) -> dict[str, ParameterValue]:
    values = dict(config.values)
    for name in ("global_batch_size", "seq_length", "precision"):
        values[name] = fact(space, config, name)
    return values


def _files(space: SearchSpace, option: str) -> list[str]:
    given = space.options.get(option, [])
    return [given] if isinstance(given, str) else [str(one) for one in given]


def nemo1_settings(space: SearchSpace, config: Config, context: RenderContext) -> dict[str, Any]:
    """Dotted key -> value, everything that differs from `conf/peft/llama/squad.yaml`."""
    steps, options, trial = steps_of(space, context), space.options, context.purpose == "trial"
    flat: dict[str, Any] = {
        "trainer.devices": space.cluster.gpus_per_node,
        "trainer.num_nodes": space.cluster.nodes,
        "trainer.max_steps": steps,
        "trainer.log_every_n_steps": 1,
        "model.seed": context.seed,
        "model.peft.peft_scheme": "lora",
        "model.peft.lora_tuning.adapter_dim": int(options.get("lora_rank", 32)),
        "model.optim.lr": float(options.get("learning_rate", 1e-4)),
        "model.restore_from_path": str(options.get("restore_from_path") or ""),
        **nemo.write_values(_values(space, config), 1),
    }
    for option, key in (("train_files", "train_ds"), ("validation_files", "validation_ds")):
        if files := _files(space, option):
            flat[f"model.data.{key}.file_names"] = files
    if files := _files(space, "train_files"):
        flat["model.data.train_ds.concat_sampling_probabilities"] = [1.0 / len(files)] * len(files)
    if context.profiler == "nsys":
        flat["model.nsys_profile"] = {"enabled": True, "start_step": 4, "end_step": 5, "ranks": [0]}
    if context.profiler == "torch":
        flat["trainer.profiler"] = "pytorch"
    if trial:
        flat |= {
            "trainer.val_check_interval": steps,
            "trainer.limit_val_batches": 1,
            "exp_manager.explicit_log_dir": str(context.trial_dir / "nemo"),
            "exp_manager.resume_if_exists": False,
            "exp_manager.create_checkpoint_callback": False,
            "exp_manager.create_early_stopping_callback": False,
            "model.resume_from_checkpoint": None,
        }
    elif options.get("results_dir"):
        flat["exp_manager.explicit_log_dir"] = str(options["results_dir"])
    return flat


def bridge_settings(space: SearchSpace, config: Config, context: RenderContext) -> dict[str, Any]:
    """Dotted field -> value on top of a Megatron-Bridge recipe."""
    steps, options = steps_of(space, context), space.options
    export = context.purpose == "export"
    return {
        "train.train_iters": steps,
        "train.eval_iters": 0,
        "logger.log_interval": 1,
        "rng.seed": context.seed,
        "peft.dim": int(options.get("lora_rank", 32)),
        "optimizer.lr": float(options.get("learning_rate", 1e-4)),
        "checkpoint.pretrained_checkpoint": str(options.get("restore_from_path") or ""),
        "checkpoint.load": None,
        "checkpoint.save": options.get("results_dir") if export else None,
        "ddp.overlap_param_gather": False,
        **nemo.write_values(_values(space, config), 2),
        **_bridge_profiling(context),
    }


def _bridge_profiling(context: RenderContext) -> dict[str, Any]:
    """Fields of its ProfilingConfig; its torch traces go beside its folder for tensorboard."""
    if context.profiler is None:
        return {}
    return {
        "profiling.use_nsys_profiler": context.profiler == "nsys",
        "profiling.use_pytorch_profiler": context.profiler == "torch",
        "profiling.profile_step_start": 4,
        "profiling.profile_step_end": 6,
        "logger.tensorboard_dir": str(context.trial_dir / "profile" / "tensorboard"),
    }


def _yaml(defaults: str, tree: Mapping[str, Any]) -> str:
    return yaml.safe_dump({"defaults": [defaults, "_self_"], **tree}, sort_keys=False)


class NeMo:
    """The framework's members, see :class:`autotune.frameworks.Framework`."""

    name = "nemo"

    def rules(self, space: SearchSpace) -> tuple[Rule, ...]:
        """What Megatron's layers refuse. BadInput also where LoRA's rank is to be searched."""
        self._check(space)
        need_batch(space)
        return tuple(Rule(expression, reason, self.name) for expression, reason in _RULES)

    def _check(self, space: SearchSpace, config: Config | None = None) -> None:
        if "lora_rank" in space.parameters:
            raise BadInput(
                f"{where(space)}: parameters.lora_rank: the rank decides what is learned; set "
                "options.lora_rank instead"
            )
        version = _version(space)
        refuse_unknown(space, f"NeMo {version}", nemo.allowed(version), OPTIONS, config)
        if not space.options.get("restore_from_path"):
            raise BadInput(
                f"{where(space)}: options.restore_from_path: LoRA needs the base model "
                f"({'.nemo file' if version == 1 else 'Megatron checkpoint folder'})"
            )

    def render(self, space: SearchSpace, config: Config, context: RenderContext) -> Job:
        """One process per GPU with its YAML or recipe; an export holds the launcher's files too."""
        self._check(space, config)
        refuse_simulation(self.name, context)
        if _version(space) == 1:
            argv, files = self._nemo1(space, config, context)
        else:
            argv, files = self._bridge(space, config, context)
        steps = steps_of(space, context)
        return gang_job(
            space,
            config,
            context,
            argv,
            files,
            steps=steps,
            own_env=ENVIRONMENT,
            why="NeMo framework",
        )

    def _nemo1(
        self, space: SearchSpace, config: Config, context: RenderContext
    ) -> tuple[list[str], dict[str, str]]:
        tree = nemo.nested(nemo1_settings(space, config, context))
        files = {TRIAL_FILE: _yaml(NEMO_DEFAULTS, tree)}
        argv = [context.python, self._program(space)]
        argv += ["--config-dir", str(context.trial_dir / "conf"), "--config-name", CONFIG_NAME]
        if context.purpose == "export":
            files[LAUNCHER_FILE] = _yaml(LAUNCHER_DEFAULTS, tree)
            files["nemo.sbatch"] = sbatch_script(space, argv[1:], context.trial_dir)
            files["nemo_launcher.sh"] = launcher_script(space, CONFIG_NAME)
        return argv, files

    def _program(self, space: SearchSpace) -> str:
        if space.runner is None:
            return f"{str(space.options.get('nemo_dir', '/opt/NeMo')).rstrip('/')}/{PROGRAM}"
        found = find_content("runners", space.runner)
        if found is None or not found.is_file():
            raise BadInput(f"{where(space)}: runner {space.runner!r} is not among the runners")
        return str(found)

    def _bridge(
        self, space: SearchSpace, config: Config, context: RenderContext
    ) -> tuple[list[str], dict[str, str]]:
        program = find_content("runners", space.runner or "nemo_lora/bridge_recipe.py")
        if program is None:
            raise BadInput(f"{where(space)}: runner nemo_lora/bridge_recipe.py is missing")
        recipe = {
            "recipe": str(space.options.get("recipe", "llama2_7b_pretrain_config")),
            "settings": bridge_settings(space, config, context),
        }
        argv = [context.python, str(program), str(context.trial_dir / RECIPE_FILE)]
        return argv, {RECIPE_FILE: json.dumps(recipe, indent=2) + "\n"}

    def log_format(self, space: SearchSpace) -> LogFormat:
        """NeMo 1's progress bars, or Megatron's lines, which Megatron-Bridge prints."""
        return format_of(space, "nemo" if _version(space) == 1 else "megatron")

    def read_back(self, space: SearchSpace, job: Job) -> Mapping[str, ParameterValue]:
        """Canonical values in the YAML or the recipe."""
        if TRIAL_FILE in job.files:
            tree = yaml.safe_load(job.files[TRIAL_FILE])
            values = nemo.read_values(dict(nemo.flattened(tree)), 1)
        else:
            values = nemo.read_values(json.loads(job.files[RECIPE_FILE])["settings"], 2)
        return values | read_environment(space, job.env)

    def checkpoint_note(self, space: SearchSpace, config: Config) -> str:
        """What the base model needs before the export can load it."""
        tensor = config.get("tensor_model_parallel_size", 1)
        pipeline = config.get("pipeline_model_parallel_size", 1)
        return (
            f"{space.options['restore_from_path']} is resharded to TP {tensor}, PP {pipeline} "
            "while it is loaded if it holds a distributed checkpoint; an older .nemo file is "
            "bound to one layout and converted with NeMo's "
            "examples/nlp/language_modeling/megatron_change_num_partitions.py "
            f"--target_tensor_model_parallel_size {tensor} "
            f"--target_pipeline_model_parallel_size {pipeline}."
        )


FRAMEWORK = NeMo()
