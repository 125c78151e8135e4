"""From pretrain_gpt.py's flags to the cost model's terms: what the simulated job is.

The simulated trainer is told nothing but flags, like any training program; here they become the
model, the workload and one row of canonical columns.
"""

from __future__ import annotations

import argparse

from megatron_text import lines

from autotune.costmodel.model import CostModel
from autotune.costmodel.workload import Workload
from autotune.space.model import ModelShape
from simulated.physics import Truth, true_step_time_and_memory


def truth_of(args: argparse.Namespace) -> Truth:
    """What really happens with these flags on the machine of ``args.sim_seed``: one row."""
    workload = Workload(
        global_batch_size=args.global_batch_size,
        seq_length=args.seq_length,
        precision="fp8" if args.fp8_format else lines.precision_name(args),
        optimizer=args.optimizer,
        framework="megatron",
    )
    model = CostModel(_shape(args), args.cluster, workload)
    return true_step_time_and_memory(model, _columns(args), args.sim_seed)


def _shape(args: argparse.Namespace) -> ModelShape:
    frequency = args.moe_layer_freq
    dense = int(frequency.split("*")[1].split("+")[0]) if "*" in frequency else 0
    return ModelShape(
        num_layers=args.num_layers,
        hidden_size=args.hidden_size,
        ffn_hidden_size=args.ffn_hidden_size or 4 * args.hidden_size,
        num_attention_heads=args.num_attention_heads,
        num_query_groups=args.num_query_groups,
        kv_channels=args.kv_channels,
        vocab_size=args.vocab_size,
        max_position_embeddings=args.max_position_embeddings,
        position_embedding_type=args.position_embedding_type,
        gated_linear_unit=args.swiglu,
        tie_embeddings=not args.untie_embeddings_and_output_weights,
        add_bias_linear=not args.disable_bias_linear,
        add_qkv_bias=args.add_qkv_bias,
        normalization=args.normalization,
        rotary_base=args.rotary_base,
        num_experts=args.num_experts,
        moe_router_topk=args.moe_router_topk if args.num_experts else 1,
        moe_ffn_hidden_size=args.moe_ffn_hidden_size,
        moe_shared_expert_intermediate_size=args.moe_shared_expert_intermediate_size,
        moe_layer_freq=1 if dense else int(frequency),
        moe_first_dense_layers=dense,
        q_lora_rank=args.q_lora_rank,
        kv_lora_rank=args.kv_lora_rank,
        qk_head_dim=args.qk_head_dim,
        qk_pos_emb_head_dim=args.qk_pos_emb_head_dim,
        v_head_dim=args.v_head_dim,
    )


def _columns(args: argparse.Namespace) -> dict[str, list[object]]:
    values = {
        "tensor_model_parallel_size": args.tensor_model_parallel_size,
        "pipeline_model_parallel_size": args.pipeline_model_parallel_size,
        "virtual_pipeline_model_parallel_size": args.num_virtual_stages_per_pipeline_rank,
        "context_parallel_size": args.context_parallel_size,
        "expert_model_parallel_size": args.expert_model_parallel_size,
        "micro_batch_size": args.micro_batch_size,
        "sequence_parallel": args.sequence_parallel,
        "recompute_granularity": args.recompute_granularity or "none",
        "recompute_method": args.recompute_method or "uniform",
        "recompute_num_layers": args.recompute_num_layers or 0,
        "use_distributed_optimizer": args.use_distributed_optimizer,
        "overlap_grad_reduce": args.overlap_grad_reduce,
        "overlap_param_gather": args.overlap_param_gather,
        "empty_unused_memory_level": args.empty_unused_memory_level,
        "tp_comm_overlap": args.tp_comm_overlap,
        "optimizer_cpu_offload": args.optimizer_cpu_offload,
        "attention_backend": args.attention_backend,
    }
    return {name: [value] for name, value in values.items()}
