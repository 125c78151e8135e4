"""The arguments of pretrain_gpt.py that a search does not move: model, data, schedule, logs.

A trial trains random weights on mock data and touches no checkpoint; only an export restores
the job's own data, tokenizer, load and save paths. What the user may pass through is the table
OPTIONS; an option that is not in it is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autotune.errors import BadInput
from autotune.frameworks import RenderContext
from autotune.frameworks._megatron_flags import FLAGS
from autotune.frameworks._space import COMMON_OPTIONS, located, user_path, where
from autotune.space.model import ModelShape

if TYPE_CHECKING:
    from autotune.space import SearchSpace

SCHEDULE: Mapping[str, str] = {
    "lr": "1e-5",
    "min_lr": "0.0",
    "weight_decay": "0.1",
    "clip_grad": "1.0",
    "adam_beta1": "0.9",
    "adam_beta2": "0.95",
    "sgd_momentum": "0.9",
    "init_method_std": "0.02",
    "make_vocab_size_divisible_by": "128",
    "transformer_impl": "transformer_engine",
    "distributed_timeout_minutes": "10",
}
"""Options that stand for one flag each, with the value taken when the space gives none."""

EXPORT_SCHEDULE: Mapping[str, str] = {"lr_decay_style": "cosine", "lr_warmup_iters": "0"}
"""Schedule of the exported run; a trial keeps the rate constant, so that the losses of trials
with different numbers of steps can be compared."""

PATHS = ("load", "save", "save_interval", "ckpt_format")
DATA = ("mock_data", "data_path", "split", "tokenizer_type", "tokenizer_model")
OPTIONS = (
    "megatron_lm_dir", "train_iters", "extra_args",
    *SCHEDULE, *EXPORT_SCHEDULE, *PATHS, *DATA,
)  # fmt: skip

_OURS = ("--train-iters", "--load", "--save", "--mock-data", "--log-interval", "--eval-iters")


def check_options(options: Mapping[str, Any]) -> None:
    """BadInput for an option that is not in OPTIONS, or extra arguments that clash with ours."""
    for name in options:
        if name not in OPTIONS and name not in COMMON_OPTIONS:
            raise BadInput.unknown("Megatron-LM option", name, OPTIONS, where="options")
    taken = {flag.flag: flag.name for flag in FLAGS}
    for argument in extra_arguments(options):
        if argument in taken:
            raise BadInput(
                f"options.extra_args: {argument} is searched or fixed as the parameter "
                f"{taken[argument]!r}; give it one value under parameters instead."
            )
        if argument in _OURS:
            raise BadInput(
                f"options.extra_args: {argument} is set by autotune itself; see the options "
                f"{', '.join((*PATHS, *DATA, 'train_iters'))}."
            )


def extra_arguments(options: Mapping[str, Any]) -> list[str]:
    """The user's own arguments, appended as they are; BadInput unless a list of words."""
    extra = options.get("extra_args") or []
    if isinstance(extra, str) or not isinstance(extra, Sequence):
        raise BadInput("options.extra_args: a list of arguments is wanted, such as ['--use-mup'].")
    return [str(item) for item in extra]


def model_arguments(model: ModelShape, seq_length: int) -> list[str]:
    """The model's shape as Megatron-LM's flags."""
    arguments = [
        "--num-layers", str(model.num_layers),
        "--hidden-size", str(model.hidden_size),
        "--ffn-hidden-size", str(model.ffn_hidden_size),
        "--num-attention-heads", str(model.num_attention_heads),
        "--seq-length", str(seq_length),
        "--max-position-embeddings", str(max(model.max_position_embeddings, seq_length)),
        "--position-embedding-type", model.position_embedding_type,
        "--normalization", model.normalization,
        "--attention-dropout", "0.0",
        "--hidden-dropout", "0.0",
    ]  # fmt: skip
    if model.num_query_groups != model.num_attention_heads and model.kv_lora_rank is None:
        arguments += ["--group-query-attention", "--num-query-groups", str(model.num_query_groups)]
    if model.kv_channels:
        arguments += ["--kv-channels", str(model.kv_channels)]
    if model.position_embedding_type == "rope":
        arguments += ["--rotary-base", str(int(model.rotary_base))]
    switches = (
        (model.gated_linear_unit, "--swiglu"),
        (not model.add_bias_linear, "--disable-bias-linear"),
        (model.add_qkv_bias, "--add-qkv-bias"),
        (not model.tie_embeddings, "--untie-embeddings-and-output-weights"),
    )
    arguments += [flag for wanted, flag in switches if wanted]
    return arguments + _latent_attention(model) + _experts(model)


def _latent_attention(model: ModelShape) -> list[str]:
    if model.kv_lora_rank is None:
        return []
    arguments = ["--multi-latent-attention", "--kv-lora-rank", str(model.kv_lora_rank)]
    for name in ("q_lora_rank", "qk_head_dim", "qk_pos_emb_head_dim", "v_head_dim"):
        size = getattr(model, name)
        if size is not None:
            arguments += [f"--{name.replace('_', '-')}", str(size)]
    return arguments


def _experts(model: ModelShape) -> list[str]:
    if model.num_experts is None:
        return []
    arguments = ["--num-experts", str(model.num_experts)]
    arguments += ["--moe-router-topk", str(model.moe_router_topk)]
    arguments += ["--moe-ffn-hidden-size", str(model.moe_ffn_hidden_size or model.ffn_hidden_size)]
    if model.moe_shared_expert_intermediate_size:
        size = str(model.moe_shared_expert_intermediate_size)
        arguments += ["--moe-shared-expert-intermediate-size", size]
    dense = model.moe_first_dense_layers
    if dense:
        arguments += ["--moe-layer-freq", f"([0]*{dense}+[1]*{model.num_layers - dense})"]
    else:
        arguments += ["--moe-layer-freq", str(model.moe_layer_freq)]
    return arguments


def data_arguments(
    space: SearchSpace, model: ModelShape, context: RenderContext, mock: bool
) -> list[str]:
    """Mock data and no tokenizer for a trial, the job's own for an export that has them.

    ``mock`` forces mock data, where nothing would read any. BadInput when real data is asked
    for (``mock_data: false``) and no ``data_path`` is given.
    """
    options = space.options
    exporting = context.purpose == "export"
    wants_mock = not options.get("data_path") if exporting else options.get("mock_data", True)
    if mock or wants_mock:
        arguments = ["--mock-data", "--tokenizer-type", "NullTokenizer"]
        return [*arguments, "--vocab-size", str(model.vocab_size)]
    if not options.get("data_path") or not options.get("tokenizer_type"):
        raise BadInput(
            f"{where(space)}: options: real data needs data_path and tokenizer_type "
            "(and tokenizer_model for most tokenizers)."
        )
    paths = options["data_path"]
    listed = paths if isinstance(paths, (list, tuple)) else [paths]
    blend = [str(item) if _is_weight(item) else located(space, str(item)) for item in listed]
    arguments = ["--data-path", *blend, "--split", str(options.get("split", "99,1,0"))]
    arguments += ["--tokenizer-type", str(options["tokenizer_type"])]
    if options.get("tokenizer_model"):
        arguments += ["--tokenizer-model", str(options["tokenizer_model"])]
    return arguments


def _is_weight(item: Any) -> bool:
    """Whether an entry of a data blend is a number that weighs the path after it."""
    try:
        float(item)
    except (TypeError, ValueError):
        return False
    return True


def schedule_arguments(space: SearchSpace, context: RenderContext, steps: int) -> list[str]:
    """Optimizer schedule, logging and checkpoints; ``steps`` is how many a trial runs.

    An export runs ``options.train_iters`` steps, or as many as a trial where that is not set.
    """
    options = space.options
    exporting = context.purpose == "export"
    length = options.get("train_iters", steps) if exporting else steps
    arguments = ["--train-iters", str(length), "--seed", str(context.seed)]
    chosen = dict(SCHEDULE)
    chosen |= EXPORT_SCHEDULE if exporting else {"lr_decay_style": "constant"}
    for name, value in chosen.items():
        given = value if name == "lr_decay_style" and not exporting else options.get(name, value)
        arguments += [f"--{name.replace('_', '-')}", str(given)]
    arguments += [
        "--log-interval", "1", "--log-throughput", "--eval-iters", "0", "--eval-interval", "1000",
        "--no-create-attention-mask-in-dataloader",
    ]  # fmt: skip
    if exporting:
        for name in ("load", "save"):
            arguments += [f"--{name}", user_path(space, name)] if options.get(name) else []
        for name in ("save_interval", "ckpt_format"):
            if options.get(name) is not None:
                arguments += [f"--{name.replace('_', '-')}", str(options[name])]
    return arguments + _profiling(context)


def _profiling(context: RenderContext) -> list[str]:
    if context.profiler is None:
        return []
    arguments = ["--profile", "--profile-step-start", "4", "--profile-step-end", "6"]
    arguments += ["--profile-ranks", "0"]
    if context.profiler == "torch":
        folder = str(context.trial_dir / "profile")
        arguments += ["--use-pytorch-profiler", "--tensorboard-dir", folder]
    return arguments
