"""What Megatron-LM refuses, as rules over canonical names: no trial is spent on a refusal.

Each rule stands for a check of Megatron-LM itself, at parsing (`validate_args`,
`TransformerConfig.__post_init__`) or when the model and its schedule are built.
`scripts/check_megatron_args.py` holds them against the real checks of several versions. A name
that a space lacks is inactive in a rule; where Megatron-LM's default decides, the rule says so
by `is None`. That the parallel sizes divide the GPUs and the micro batches the global batch are
rules of every space and not repeated here.
"""

from __future__ import annotations

from autotune.space.rule import Rule

ORIGIN = "megatron"

_TP, _PP = "tensor_model_parallel_size", "pipeline_model_parallel_size"
_VPP, _CP = "virtual_pipeline_model_parallel_size", "context_parallel_size"
_EP = "expert_model_parallel_size"
_ETP = f"({_TP} if expert_tensor_parallel_size is None else expert_tensor_parallel_size)"
_CHUNK = f"num_layers // ({_PP} * {_VPP})"


def _on(name: str) -> str:
    """True where a switch that is off by default is given and on."""
    return f"({name} is not None and {name})"


def _off(name: str) -> str:
    """True where a switch that is off by default is left out or off."""
    return f"({name} is None or not {name})"


_SHARDED = f"({_on('use_distributed_optimizer')} or (zero_stage is not None and zero_stage > 0))"

_LAYOUT = (
    (f"num_attention_heads % {_TP} == 0", "tensor parallelism splits the attention heads evenly"),
    (
        f"kv_lora_rank is not None or num_query_groups % {_TP} == 0",
        "tensor parallelism splits the key/value heads evenly",
    ),
    (
        f"hidden_size % {_TP} == 0 and ffn_hidden_size % {_TP} == 0",
        "tensor parallelism splits hidden and feed-forward sizes evenly (the layers refuse else)",
    ),
    (f"num_layers % {_PP} == 0", "every pipeline stage holds the same number of layers"),
)

_INTERLEAVING = (
    (f"{_VPP} == 1 or {_PP} > 1", "the interleaved schedule needs more than one pipeline stage"),
    (
        f"{_VPP} == 1 or {_PP} > 2"
        " or overlap_p2p_communication is None or overlap_p2p_communication",
        "without overlapped p2p communication the interleaved schedule needs more than two stages",
    ),
    (
        f"{_VPP} == 1 or num_layers // {_PP} % {_VPP} == 0",
        "the layers of a pipeline stage split evenly into its virtual stages",
    ),
    (
        f"{_VPP} == 1 or gradient_accumulation_steps % {_PP} == 0",
        "the interleaved schedule runs micro batches in groups of the pipeline size and refuses a "
        "smaller rest",
    ),
)

_SEQUENCE = (
    (
        f"{_off('sequence_parallel')} or {_TP} > 1",
        "sequence parallelism splits over tensor-parallel ranks; with one it is switched off",
    ),
    (
        f"{_off('sequence_parallel')} or seq_length % ({_TP} * {_CP}) == 0",
        "sequence parallelism splits each context-parallel part of the sequence evenly",
    ),
    (
        f"{_CP} == 1 or seq_length % (2 * {_CP}) == 0",
        "context parallelism gives every rank two equal chunks of the sequence",
    ),
    (
        f"{_CP} == 1 or cp_comm_type is None or cp_comm_type != 'a2a'"
        f" or (num_attention_heads % ({_TP} * {_CP}) == 0"
        f" and num_query_groups % ({_TP} * {_CP}) == 0)",
        "all-to-all context parallelism splits the heads over its ranks (attention refuses else)",
    ),
    (
        f"{_CP} > 1 or cp_comm_type is None or cp_comm_type == 'p2p'",
        "with one context-parallel rank nothing is exchanged",
    ),
    (
        f"{_off('tp_comm_overlap')} or {_on('sequence_parallel')}",
        "tensor-parallel communication overlaps with GEMMs only under sequence parallelism",
    ),
)

_FULL = "(recompute_granularity is not None and recompute_granularity == 'full')"
_RECOMPUTE = (
    (
        f"not {_FULL} or (recompute_method is not None and recompute_num_layers is not None)",
        "full recomputation needs a method and a number of layers",
    ),
    (
        f"{_FULL} or (recompute_method is None and recompute_num_layers is None)",
        "a recompute method and number of layers belong to full recomputation only",
    ),
    (
        "recompute_modules is None or"
        " (recompute_granularity is not None and recompute_granularity == 'selective')",
        "recompute modules belong to selective recomputation; full recomputation ignores them",
    ),
    (
        f"recompute_num_layers is None or 1 <= recompute_num_layers <= {_CHUNK}",
        "layers are recomputed out of those of one (virtual) stage; more of them mean all",
    ),
    (
        "recompute_method is None or recompute_method != 'uniform'"
        f" or ({_CHUNK}) % recompute_num_layers == 0",
        "uniform recomputation cuts a (virtual) stage into equal units (core_v0.12 fails else)",
    ),
    (
        f"{_off('distribute_saved_activations')}"
        f" or ({_TP} > 1 and {_FULL} and {_off('sequence_parallel')})",
        "saved activations are distributed over tensor-parallel ranks, under full recomputation "
        "and without sequence parallelism",
    ),
)

_OPTIMIZER = (
    (
        f"{_off('overlap_param_gather')} or ({_SHARDED} and {_on('overlap_grad_reduce')})",
        "the parameter gather overlaps only with the distributed optimizer and with "
        "overlap_grad_reduce",
    ),
    (
        f"optimizer is None or optimizer in ['adam', 'adamw'] or not {_SHARDED}",
        "the distributed optimizer shards Adam's states and refuses others when it is built",
    ),
    (
        f"{_off('use_precision_aware_optimizer')} or {_SHARDED}",
        "the precision-aware optimizer is part of the distributed optimizer",
    ),
    (
        f"{_off('optimizer_cpu_offload')} or {_on('use_precision_aware_optimizer')}",
        "offloading the optimizer uses the precision-aware optimizer's code path",
    ),
    (
        f"{_off('defer_embedding_wgrad_compute')} or ({_PP} > 1 and"
        " (gradient_accumulation_fusion is None or gradient_accumulation_fusion))",
        "the embedding's weight gradient is deferred under pipeline parallelism with fused "
        "gradient accumulation",
    ),
)

_EXPERTS = (
    (f"num_experts is not None or {_EP} == 1", "expert parallelism needs experts"),
    (
        f"num_experts is not None or (expert_tensor_parallel_size is None"
        f" and {_off('moe_permute_fusion')} and (moe_token_dispatcher_type is None"
        " or moe_token_dispatcher_type == 'allgather'))",
        "a dense model has no experts to split, permute or dispatch",
    ),
    (
        f"num_experts is None or num_experts % {_EP} == 0",
        "expert parallelism gives every rank the same number of experts",
    ),
    (
        f"num_experts is None or world_size % ({_ETP} * {_EP} * {_PP}) == 0",
        "expert tensor, expert and pipeline parallel sizes together divide the number of GPUs "
        "(the process groups cannot be built else)",
    ),
    (
        f"num_experts is None or {_TP} == 1 or {_on('sequence_parallel')}",
        "experts under tensor parallelism need sequence parallelism (the layer refuses else)",
    ),
    (
        f"{_EP} == 1 or precision is None or precision != 'fp16'",
        "expert parallelism is refused in fp16 (by core_v0.12)",
    ),
    (
        f"{_off('moe_grouped_gemm')} or (num_experts is not None"
        " and (precision is None or precision in ['bf16', 'fp8']))",
        "grouped GEMM runs experts in bf16 only (core_v0.12 refuses else)",
    ),
    (
        f"{_off('moe_shared_expert_overlap')} or (moe_shared_expert_intermediate_size is not None"
        " and moe_token_dispatcher_type is not None and moe_token_dispatcher_type == 'alltoall')",
        "shared experts overlap with the all-to-all dispatcher only",
    ),
)

_PRECISION = (
    (
        "precision is None or precision != 'fp8' or gpu_has_fp8",
        "the GPU has no FP8 products",
    ),
    (
        "precision is None or precision != 'fp8' or "
        f"(hidden_size % (16 * {_TP}) == 0 and ffn_hidden_size % (16 * {_TP}) == 0"
        f" and micro_batch_size * seq_length % (16 * {_CP} * {_TP}) == 0)",
        "FP8 GEMMs need dimensions that are multiples of 16 (Transformer Engine refuses else)",
    ),
)

RULES: tuple[Rule, ...] = tuple(
    Rule(expression, reason, ORIGIN)
    for group in (
        _LAYOUT, _INTERLEAVING, _SEQUENCE, _RECOMPUTE, _OPTIMIZER, _EXPERTS, _PRECISION,
    )
    for expression, reason in group
)  # fmt: skip
"""All of them; one list serves every space."""
