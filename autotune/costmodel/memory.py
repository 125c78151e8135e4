"""Peak memory of one GPU by part, for the first, a middle and the last pipeline stage.

Activations follow Korthikanti et al. 2022 (arXiv:2205.05198, section 4: 34 s b h bytes plus
5 a s^2 b for materialised scores), written per tensor so that gated MLPs, grouped queries,
fused kernels and uneven stages come out of the same sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.costmodel.counts import (
    dense_layer,
    expert_layer,
    expert_layer_count,
    norm_parameters,
)
from autotune.costmodel.layout import Layout
from autotune.costmodel.workload import Conventions, Workload, element_bytes
from autotune.space.model import ModelShape

Floats = npt.NDArray[np.float64]
GIB = float(2**30)
MEMORY_PARTS = (
    "weights", "gradients", "optimizer", "activations", "logits_and_temporary",
    "communication_buffers", "fragmentation_reserve",
)  # fmt: skip
STAGES = ("first", "middle", "last")
CONTEXT_GIB, NCCL_GIB, FRAGMENTATION = 0.6, 0.5, 0.01
"""Device memory outside the allocator's blocks: driver context, NCCL, and the blocks' own slack."""

WHOLE_BYTES = 6.0
"""FSDP2 without resharding: a bf16 weight and the fp32 gradient that waits to be scattered."""


@dataclass(frozen=True)
class MemoryParts:
    """GiB by part, arrays (n, 3 stages, parts) before any constant is applied.

    The last part, the reserve, is what the runtime holds besides (context, NCCL, workspaces).
    """

    by_stage: Floats
    late_each: Floats
    """GiB (n,) that each layer launched ahead of a lagging device holds on top."""
    layers: Floats
    held: Floats
    """Layers of each stage and micro batches it holds (n, 3 stages)."""
    reported: int | None
    """Stage whose rank the framework's log shows; None: the fullest."""
    retries_when_full: bool


def padded_vocab(shape: ModelShape, rules: Conventions, tp: Floats) -> Floats:
    """Vocabulary rounded up to the framework's multiple times tensor parallelism."""
    unit = rules.vocab_divisor * tp
    return np.asarray(np.ceil(shape.vocab_size / unit) * unit)


def layer_parameters(shape: ModelShape, layout: Layout) -> tuple[Floats, Floats]:
    """(ordinary, expert) parameters of one layer on one GPU, mixture layers averaged in."""
    share = expert_layer_count(shape) / shape.num_layers
    dense, expert = dense_layer(shape), expert_layer(shape)
    replicated = (1 - share) * dense.replicated + share * expert.replicated
    sharded = (1 - share) * (dense.attention + dense.mlp) + share * (expert.attention + expert.mlp)
    return replicated + sharded / layout.tp, share * expert.experts / (layout.tp * layout.ep)


def local_parameters(
    shape: ModelShape, rules: Conventions, layout: Layout
) -> tuple[list[Floats], list[Floats]]:
    """(ordinary, expert) parameters on one GPU of each of the three stages, elements."""
    per_layer, experts_per_layer = layer_parameters(shape, layout)
    table = padded_vocab(shape, rules, layout.tp) * shape.hidden_size / layout.tp
    head = np.where((layout.pp > 1) | (not shape.tie_embeddings), table, 0.0)
    positions = 0
    if shape.position_embedding_type == "learned_absolute":
        positions = shape.max_position_embeddings * shape.hidden_size
    head = head + norm_parameters(shape, shape.hidden_size)
    single = layout.pp == 1
    cuts = layout.stages
    ordinary = [
        cuts.first * per_layer + table + positions + np.where(single, head, 0.0),
        cuts.middle * per_layer,
        cuts.last * per_layer + head + np.where(single, table + positions, 0.0),
    ]
    experts = [n * experts_per_layer for n in (cuts.first, cuts.middle, cuts.last)]
    return ordinary, experts


def _state_bytes(
    ordinary: Floats, experts: Floats, layout: Layout, rules: Conventions, workload: Workload
) -> tuple[Floats, Floats, Floats]:
    """(weights, gradients, optimizer) in bytes after ZeRO sharding and offload."""
    size = rules.weight_bytes or element_bytes(workload.precision)
    ranks = layout.shard
    expert_ranks = np.maximum(ranks / layout.ep, 1.0)
    full = size == 4.0
    optimizer_bytes = rules.moment_bytes + (0.0 if full else rules.master_bytes)
    if workload.optimizer.lower() == "sgd":
        optimizer_bytes = 0.0 if full else rules.master_bytes
    weights, gradients, optimizer = (np.zeros(len(ordinary)) for _ in range(3))
    if workload.optimizer.lower() == "adafactor":
        optimizer_bytes -= rules.moment_bytes
    gradient_bytes = rules.gradient_bytes * workload.trainable_share
    optimizer_bytes *= workload.trainable_share
    for count, over in ((ordinary, ranks), (experts, expert_ranks)):
        weights += count * size / np.where(layout.zero >= 3, over, 1.0)
        gradients += count * gradient_bytes / np.where(layout.zero >= 2, over, 1.0)
        gradients += count * np.where(over > 1, rules.bucket_bytes * workload.trainable_share, 0.0)
        optimizer += count * optimizer_bytes / np.where(layout.zero >= 1, over, 1.0)
    weights *= 1.0 - layout.offload_parameters
    optimizer *= 1.0 - layout.offload_optimizer
    return weights, gradients, optimizer


def layer_activation_bytes(shape: ModelShape, layout: Layout, rules: Conventions) -> Floats:
    """Bytes one layer keeps for the backward pass of one micro batch, without recomputation."""
    h, heads, d = shape.hidden_size, shape.num_attention_heads, shape.head_dim
    tokens = layout.micro_batch * layout.seq / layout.cp
    tp = layout.tp
    region = np.where(layout.sequence_parallel > 0, tp, 1.0)
    norm_copies = np.where(layout.fused_norm > 0, 0.0, rules.norm_copy_bytes)
    dropout = 2.0 if shape.normalization == "LayerNorm" else 0.0
    residual = h * (8.0 + norm_copies + dropout) / region
    kv = shape.num_query_groups * d
    attention = (2.0 * (heads * d + 2 * kv) + 2.0 * heads * d + 4.0 * heads) / tp
    unfused = np.where(layout.fused_elementwise > 0, 0.0, 1.0)
    mlp = _mlp_bytes(shape, 6.0 + 2.0 * unfused if shape.gated_linear_unit else 4.0) / tp
    score_bytes = np.where(layout.fused_softmax > 0, 5.0, 8.0)
    scores = score_bytes * heads * layout.seq / layout.cp / tp * layout.materialised
    scores *= 1.0 - layout.recompute_attention
    saved = residual + attention + mlp
    if rules.selective_by_operator:
        kept = 4.0 * h / region + (4.0 * heads * d + 2.0 * kv + _mlp_bytes(shape, 2.0)) / tp
        saved = np.where(layout.recompute_attention > 0, kept, saved)
    return np.asarray(tokens * (saved + scores))


def _mlp_bytes(shape: ModelShape, per_width: Floats | float) -> Floats:
    """Bytes per token of what the MLP saves, mixture layers averaged in: ``per_width`` for each
    of its inner elements."""
    sparse = expert_layer_count(shape) / shape.num_layers
    dense = per_width * shape.ffn_hidden_size
    if not sparse:
        return np.asarray(dense)
    width = shape.moe_ffn_hidden_size or shape.ffn_hidden_size
    routed = shape.moe_router_topk * (per_width * width + 4.0 * shape.hidden_size)
    shared = per_width * (shape.moe_shared_expert_intermediate_size or 0)
    return np.asarray((1 - sparse) * dense + sparse * (routed + shared))


def late_freed_bytes(shape: ModelShape, layout: Layout, rules: Conventions) -> Floats:
    """Bytes of one layer's whole tensors that collectives on a side stream used and that are free
    for reuse only once the device is past them."""
    tokens = layout.micro_batch * layout.seq / layout.cp
    whole = 2.0 * shape.hidden_size * rules.late_freed_tensors
    return np.asarray(tokens * whole * ((layout.tp > 1) & (layout.sequence_parallel > 0)))


def _stage_activations(
    layers: Floats, in_flight: Floats, per_layer: Floats, shape: ModelShape, layout: Layout
) -> Floats:
    """Bytes of one stage: saved layers of every micro batch in flight, checkpoints if any."""
    tokens = layout.micro_batch * layout.seq / layout.cp
    region = np.where(layout.sequence_parallel > 0, layout.tp, 1.0)
    checkpoint = 2.0 * shape.hidden_size * tokens / region
    kept = layout.recompute_full * checkpoint / layout.recompute_block
    kept = kept + (1.0 - layout.recompute_full) * per_layer
    working = np.where(layout.recompute_full > 0, per_layer * layout.recompute_block, 0.0)
    held = layers * in_flight * kept * (1.0 - layout.offload_activations)
    return np.asarray(held + np.where(layers > 0, working, 0.0))


def in_flight(layout: Layout) -> list[Floats]:
    """Micro batches (in whole-stage units) whose activations each of the three stages holds.

    1F1B: p - s; interleaved: the first stage holds (p - 1)(1 + 1/v) + 1 / v more at most
    (Narayanan et al. 2021, section 2.2); all-forward-first holds every micro batch; V-shaped
    schedules hold a share of 1F1B's first stage, the same on every stage.
    """
    p, v, m = layout.pp, layout.vpp, layout.microbatches
    extra = np.where(v > 1, (p - 1.0) / (p * v) * p, 0.0)
    afab = layout.all_forward_first > 0
    result = []
    for stage in (np.zeros(len(p)), np.minimum(1.0, p - 1), p - 1):
        interleaved = np.where(v > 1, extra * (1 - stage / np.maximum(p, 1)), 0.0)
        held = np.where(v > 1, p - stage + interleaved, p - stage)
        held = np.where(layout.v_share > 0, 1.0 + layout.v_share * (p - 1.0), held)
        result.append(np.where(afab, m, np.clip(held, 1.0, m)))
    return result


def memory_parts(
    shape: ModelShape, layout: Layout, rules: Conventions, workload: Workload
) -> MemoryParts:
    """All parts of all three stages in GiB, nominal."""
    ordinary, experts = local_parameters(shape, rules, layout)
    per_layer = layer_activation_bytes(shape, layout, rules)
    tokens = layout.micro_batch * layout.seq / layout.cp
    vocab = padded_vocab(shape, rules, layout.tp)
    logits = tokens * vocab * (rules.logit_bytes / layout.tp + rules.whole_logit_bytes)
    logits = logits * layout.kernels.held_logits
    flights = in_flight(layout)
    cuts = (layout.stages.first, layout.stages.middle, layout.stages.last)
    single = layout.pp == 1
    out = np.zeros((len(tokens), len(STAGES), len(MEMORY_PARTS)))
    for s, (layers, held) in enumerate(zip(cuts, flights, strict=True)):
        weights, gradients, optimizer = _state_bytes(
            ordinary[s], experts[s], layout, rules, workload
        )
        has_head = single | (s == 2)
        activations = _stage_activations(layers, held, per_layer, shape, layout)
        gathered = np.where(layout.zero >= 3, 2.0, 0.0) * 2.0 * ordinary[s] / np.maximum(layers, 1)
        if rules.gathered_in_pipelines:
            whole = WHOLE_BYTES * (ordinary[s] + experts[s]) * (1.0 - 1.0 / layout.shard)
            gathered = np.where((layout.zero >= 3) & (layout.pp > 1), whole, gathered)
        hidden = 2.0 * shape.hidden_size * tokens
        buffers = gathered + np.where(layout.tp > 1, 2.0 * hidden, 0.0)
        buffers = buffers + np.where(layout.pp > 1, 2.0 * hidden, 0.0)
        temporary = np.where(has_head, logits, per_layer * 0.5)
        columns = (weights, gradients, optimizer, activations, temporary, buffers)
        for k, values in enumerate(columns):
            out[:, s, k] = values / GIB
        held_bytes = sum(columns[:-1], np.zeros(len(tokens)))
        out[:, s, len(columns)] = CONTEXT_GIB + np.where(layout.world > 1, NCCL_GIB, 0.0)
        out[:, s, len(columns)] += FRAGMENTATION * held_bytes / GIB
    out[:, 1, :] *= (layout.pp > 2)[:, None]
    reported = {"peak": None, "first": 0, "last": 2}[rules.reported_rank]
    late_each = late_freed_bytes(shape, layout, rules) / GIB
    return MemoryParts(
        out, late_each, np.stack(cuts, 1), np.stack(flights, 1), reported, rules.retries_when_full
    )
