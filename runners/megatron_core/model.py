"""The GPT, its data-parallel wrapper and its optimizer, built from Megatron-LM's flags.

Weights are drawn by parameter name, whole, and then cut to the rank's part: every layout starts
from the same model, so that first losses agree wherever the layout is right.
"""

from __future__ import annotations

import argparse
import re
import zlib
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
from megatron.core.distributed.finalize_model_grads import finalize_model_grads
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.utils import get_model_config

from megatron_core.layers import block_spec

Chunks = list[Any]
_LAYER = re.compile(r"decoder\.layers\.(\d+)\.")


def parameter_dtype(args: argparse.Namespace) -> torch.dtype:
    """The type of weights and activations."""
    if args.bf16:
        return torch.bfloat16
    return torch.float16 if args.fp16 else torch.float32


def padded_vocab(args: argparse.Namespace) -> int:
    """Vocabulary rounded up as Megatron-LM does, to a multiple for every tensor-parallel rank."""
    unit = args.make_vocab_size_divisible_by * args.tensor_model_parallel_size
    return -(-args.vocab_size // unit) * unit


def transformer_config(args: argparse.Namespace, on_cpu: bool) -> TransformerConfig:
    """megatron-core's configuration of these flags, with the local (not fused) kernels.

    Stage outputs are kept until they are used up on a CPU: gloo, unlike NCCL, still reads them
    when they would be freed.
    """
    virtual = args.num_virtual_stages_per_pipeline_rank
    return TransformerConfig(
        num_layers=args.num_layers,
        hidden_size=args.hidden_size,
        ffn_hidden_size=args.ffn_hidden_size,
        num_attention_heads=args.num_attention_heads,
        num_query_groups=args.num_query_groups,
        kv_channels=args.kv_channels,
        normalization=args.normalization,
        gated_linear_unit=args.swiglu,
        activation_func=torch.nn.functional.silu if args.swiglu else torch.nn.functional.gelu,
        add_bias_linear=not args.disable_bias_linear,
        add_qkv_bias=args.add_qkv_bias or not args.disable_bias_linear,
        attention_dropout=args.attention_dropout,
        hidden_dropout=args.hidden_dropout,
        init_method_std=args.init_method_std,
        tensor_model_parallel_size=args.tensor_model_parallel_size,
        pipeline_model_parallel_size=args.pipeline_model_parallel_size,
        virtual_pipeline_model_parallel_size=virtual if virtual > 1 else None,
        sequence_parallel=args.sequence_parallel,
        overlap_p2p_comm=virtual > 1 and not args.no_overlap_p2p_communication,
        batch_p2p_comm=virtual == 1 or args.no_overlap_p2p_communication,
        recompute_granularity=args.recompute_granularity,
        recompute_method=args.recompute_method,
        recompute_num_layers=args.recompute_num_layers,
        recompute_modules=args.recompute_modules,
        distribute_saved_activations=args.distribute_saved_activations,
        params_dtype=parameter_dtype(args),
        pipeline_dtype=parameter_dtype(args),
        bf16=args.bf16,
        fp16=args.fp16,
        use_cpu_initialization=on_cpu,
        masked_softmax_fusion=False,
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        gradient_accumulation_fusion=False,
        apply_rope_fusion=False,
        deallocate_pipeline_outputs=not on_cpu,
        finalize_model_grads_func=finalize_model_grads,
    )


def build_model(args: argparse.Namespace, device: torch.device) -> Chunks:
    """This rank's model chunks (one, or one for each virtual stage), wrapped for data parallel."""
    config = transformer_config(args, device.type == "cpu")
    virtual = args.num_virtual_stages_per_pipeline_rank
    chunks: Chunks = []
    for stage in range(virtual):
        place = stage if virtual > 1 else None
        first = parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=place)
        last = parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=place)
        chunk = GPTModel(
            config=config,
            transformer_layer_spec=block_spec(config, place),
            vocab_size=padded_vocab(args),
            max_sequence_length=args.max_position_embeddings,
            pre_process=first,
            post_process=last,
            share_embeddings_and_output_weights=not args.untie_embeddings_and_output_weights,
            position_embedding_type=args.position_embedding_type,
            rotary_base=args.rotary_base,
            vp_stage=place,
        )
        draw_weights(args, chunk)
        chunks.append(chunk.to(device=device, dtype=parameter_dtype(args)))
    data_parallel = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        overlap_grad_reduce=args.overlap_grad_reduce,
        overlap_param_gather=args.overlap_param_gather,
        use_distributed_optimizer=args.use_distributed_optimizer,
        bucket_size=args.ddp_bucket_size or (40_000_000 if args.overlap_grad_reduce else None),
    )
    return [
        DistributedDataParallel(
            get_model_config(chunk), data_parallel, chunk, disable_bucketing=number > 0
        )
        for number, chunk in enumerate(chunks)
    ]


def draw_weights(args: argparse.Namespace, chunk: Any) -> None:
    """Fill every weight matrix by its global name; vectors keep their constants."""
    rank = parallel_state.get_tensor_model_parallel_rank()
    size = parallel_state.get_tensor_model_parallel_world_size()
    for name, parameter in chunk.named_parameters():
        if parameter.dim() < 2:
            continue
        named = _LAYER.sub(lambda found: f"layer {_global_layer(chunk, int(found[1]))}.", name)
        if named == "output_layer.weight" and not args.untie_embeddings_and_output_weights:
            named = "embedding.word_embeddings.weight"
        split = getattr(parameter, "partition_dim", -1)
        is_split = getattr(parameter, "tensor_model_parallel", False) and split >= 0 and size > 1
        shape = list(parameter.shape)
        if is_split:
            shape[split] *= size
        seed = zlib.crc32(f"{args.seed}/{named}".encode())
        whole = torch.empty(shape, dtype=torch.float32, device="cpu")
        whole.normal_(0.0, args.init_method_std, generator=torch.Generator().manual_seed(seed))
        halves = 2 if args.swiglu and "linear_fc1" in name else 1
        if is_split:
            parts = [half.chunk(size, dim=split)[rank] for half in whole.chunk(halves, dim=split)]
            whole = torch.cat(parts, dim=split)
        with torch.no_grad():
            parameter.copy_(whole)


def _global_layer(chunk: Any, local: int) -> int:
    """The layer's number in the whole model, from 1."""
    return int(chunk.decoder.layers[local].layer_number)


def build_optimizer(args: argparse.Namespace, chunks: Chunks) -> Any:
    """megatron-core's optimizer: Adam or SGD, sharded over data-parallel ranks if asked."""
    config = OptimizerConfig(
        optimizer=args.optimizer,
        lr=args.lr,
        min_lr=args.min_lr,
        weight_decay=args.weight_decay,
        adam_beta1=args.adam_beta1,
        adam_beta2=args.adam_beta2,
        sgd_momentum=args.sgd_momentum,
        clip_grad=args.clip_grad,
        bf16=args.bf16,
        fp16=args.fp16,
        params_dtype=parameter_dtype(args),
        use_distributed_optimizer=args.use_distributed_optimizer,
        overlap_param_gather=args.overlap_param_gather,
    )
    return get_megatron_optimizer(config, chunks)
