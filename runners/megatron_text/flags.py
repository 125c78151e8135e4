"""Reads the argument vector of pretrain_gpt.py without Megatron-LM.

Only flags listed here are known; an unknown one ends the program as argparse does (exit 2),
so that a runner never ignores what it was told. `check` holds the few rules of Megatron-LM's
own validate_args without which a stand-in would run what the real program refuses.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

INTEGERS = {
    "num_layers": None, "hidden_size": None, "ffn_hidden_size": None,
    "num_attention_heads": None, "num_query_groups": None, "kv_channels": None,
    "seq_length": None, "max_position_embeddings": None, "vocab_size": None,
    "make_vocab_size_divisible_by": 128, "rotary_base": 10000,
    "tensor_model_parallel_size": 1, "pipeline_model_parallel_size": 1,
    "num_virtual_stages_per_pipeline_rank": 1, "context_parallel_size": 1,
    "expert_model_parallel_size": 1, "expert_tensor_parallel_size": None,
    "micro_batch_size": 1, "global_batch_size": None, "recompute_num_layers": None,
    "ddp_bucket_size": None, "empty_unused_memory_level": 0,
    "train_iters": 10, "seed": 1234, "log_interval": 100, "eval_iters": 100,
    "eval_interval": 1000, "lr_warmup_iters": 0, "save_interval": None,
    "distributed_timeout_minutes": 10, "num_experts": None, "moe_router_topk": 2,
    "moe_ffn_hidden_size": None, "moe_shared_expert_intermediate_size": None,
    "q_lora_rank": None, "kv_lora_rank": None, "qk_head_dim": None,
    "qk_pos_emb_head_dim": None, "v_head_dim": None,
    "profile_step_start": 10, "profile_step_end": 12,
}  # fmt: skip

FLOATS = {
    "lr": 1e-4, "min_lr": 0.0, "weight_decay": 0.01, "clip_grad": 1.0, "adam_beta1": 0.9,
    "adam_beta2": 0.999, "sgd_momentum": 0.9, "attention_dropout": 0.1, "hidden_dropout": 0.1,
    "init_method_std": 0.02,
}  # fmt: skip

WORDS = {
    "position_embedding_type": "learned_absolute", "normalization": "LayerNorm",
    "recompute_granularity": None, "recompute_method": None, "cp_comm_type": "p2p",
    "attention_backend": "auto", "moe_token_dispatcher_type": "allgather",
    "moe_layer_freq": "1", "optimizer": "adam", "fp8_format": None,
    "lr_decay_style": "linear", "transformer_impl": "transformer_engine",
    "tokenizer_type": None, "tokenizer_model": None, "split": None, "load": None, "save": None,
    "ckpt_format": "torch_dist", "tensorboard_dir": None,
}  # fmt: skip

LISTS = ("recompute_modules", "data_path", "profile_ranks")

SWITCHES = (
    "group_query_attention", "swiglu", "disable_bias_linear", "add_qkv_bias",
    "untie_embeddings_and_output_weights", "multi_latent_attention", "sequence_parallel",
    "distribute_saved_activations", "use_distributed_optimizer", "overlap_grad_reduce",
    "overlap_param_gather", "no_overlap_p2p_communication", "tp_comm_overlap",
    "no_gradient_accumulation_fusion", "cross_entropy_loss_fusion",
    "defer_embedding_wgrad_compute", "use_precision_aware_optimizer", "optimizer_cpu_offload",
    "moe_grouped_gemm", "moe_permute_fusion", "moe_shared_expert_overlap", "fp16", "bf16",
    "mock_data", "log_throughput", "no_create_attention_mask_in_dataloader", "profile",
    "use_pytorch_profiler",
)  # fmt: skip


def megatron_parser(description: str) -> argparse.ArgumentParser:
    """A parser of the flags above under Megatron-LM's names and defaults; no abbreviations."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    for name, default in INTEGERS.items():
        parser.add_argument(_flag(name), type=int, default=default)
    for name, number in FLOATS.items():
        parser.add_argument(_flag(name), type=float, default=number)
    for name, word in WORDS.items():
        parser.add_argument(_flag(name), default=word)
    for name in LISTS:
        parser.add_argument(_flag(name), nargs="+", default=None)
    for name in SWITCHES:
        parser.add_argument(_flag(name), action="store_true")
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse(
    parser: argparse.ArgumentParser, world_size: int, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Arguments with ``world_size``, ``data_parallel_size`` and ``num_microbatches`` filled in.

    Raises AssertionError with Megatron-LM's words for a layout that it refuses.
    """
    args = parser.parse_args(argv)
    args.world_size = world_size
    if args.num_query_groups is None or not args.group_query_attention:
        args.num_query_groups = args.num_attention_heads
    if args.expert_tensor_parallel_size is None:
        args.expert_tensor_parallel_size = args.tensor_model_parallel_size
    check(args)
    return args


def check(args: argparse.Namespace) -> None:
    """Megatron-LM's own refusals; sets ``data_parallel_size`` and ``num_microbatches``."""
    tensor, pipeline = args.tensor_model_parallel_size, args.pipeline_model_parallel_size
    total = tensor * pipeline * args.context_parallel_size
    assert args.world_size % total == 0, (
        f"world size ({args.world_size}) is not divisible by total_model_size ({total})"
    )
    args.data_parallel_size = args.world_size // total
    assert args.num_layers % pipeline == 0, (
        "Number of layers should be divisible by the pipeline-model-parallel size"
    )
    assert args.num_attention_heads % tensor == 0, (
        f"num_attention_heads ({args.num_attention_heads}) must be a multiple of "
        f"tensor_model_parallel_size ({tensor})."
    )
    assert args.num_query_groups % tensor == 0, (
        f"num_query_groups ({args.num_query_groups}) must be a multiple of "
        f"tensor_model_parallel_size ({tensor})."
    )
    micro = args.micro_batch_size * args.data_parallel_size
    assert args.global_batch_size % micro == 0, (
        f"global batch size ({args.global_batch_size}) is not divisible by micro batch size "
        f"({args.micro_batch_size}) times data parallel size ({args.data_parallel_size})"
    )
    args.num_microbatches = args.global_batch_size // micro
    _check_schedule(args)
    _check_memory(args)


def _check_schedule(args: argparse.Namespace) -> None:
    pipeline, virtual = args.pipeline_model_parallel_size, args.num_virtual_stages_per_pipeline_rank
    if virtual > 1:
        lowest = 2 if args.no_overlap_p2p_communication else 1
        assert pipeline > lowest, (
            "When interleaved schedule is used, pipeline-model-parallel size should be greater "
            f"than {lowest}"
        )
        assert args.num_layers // pipeline % virtual == 0, (
            "number of layers per pipeline stage must be divisible number of layers per virtual "
            "pipeline stage"
        )
        assert args.num_microbatches % pipeline == 0, (
            f"number of microbatches ({args.num_microbatches}) is not divisible by "
            f"pipeline-model-parallel-size ({pipeline}) when using interleaved schedule"
        )
    if args.overlap_param_gather:
        assert args.use_distributed_optimizer, (
            "--overlap-param-gather only supported with distributed optimizer"
        )
        assert args.overlap_grad_reduce, (
            "Must use --overlap-param-gather with --overlap-grad-reduce"
        )


def _check_memory(args: argparse.Namespace) -> None:
    if args.sequence_parallel:
        assert args.tensor_model_parallel_size > 1, (
            "Cannot use sequence parallelism without tensor parallelism"
        )
    if args.recompute_granularity == "full":
        assert args.recompute_method in ("uniform", "block"), (
            'Using recompute_granularity: full so recompute_method must be "block" or "uniform"'
        )
        assert args.recompute_num_layers, (
            "When using recompute_granularity: full recompute_num_layers must be between 1 and "
            "num_layers_per_pipeline_rank"
        )
    else:
        assert args.recompute_method is None, (
            "recompute method is not yet supported for selective recomputing granularity"
        )
    if args.context_parallel_size > 1:
        assert args.seq_length % (2 * args.context_parallel_size) == 0, (
            "seq-length should be a multiple of 2 * context-parallel-size"
        )
