"""Step time of the slowest pipeline by part, linear in the constants wherever physics is.

Every kind of work becomes one column of seconds at nominal efficiency. Matmuls pay FLOPs,
bytes and a start-up; what is bound by memory pays bytes; collectives pay bytes and latency.
Maxima (host against device, communication against the work that hides it) come afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.costmodel.counts import expert_layer_count, flops_per_token
from autotune.costmodel.layout import MATMUL_KINDS, Layout
from autotune.costmodel.links import Fabric
from autotune.costmodel.memory import layer_parameters, local_parameters, padded_vocab
from autotune.costmodel.workload import Conventions, Workload, element_bytes, normal_precision
from autotune.space.cluster import Hardware
from autotune.space.model import ModelShape

Floats = npt.NDArray[np.float64]
KERNEL_START_S = 4e-6
STEP_OVERHEAD_S = 1e-2
HOST_LAYER_S = (1.6e-3, 1.3e-3)
"""Launching one layer, forward and backward: eager and with fused kernels (eager measured on
an H200 host with torch 2.11: 1.5 to 1.9 ms whatever the sizes)."""
HOST_COLLECTIVES_S = 1.0e-3
CROWDED_TP = 0.42
"""Across nodes tensor-parallel rings use every port of a node, and slow down with each node."""
TP_START_ACROSS_S = 4e-4
"""What each further collective across nodes costs per node, whatever its size."""
HOST_ROUTING_S, HOST_EXPERT_S = 2.0e-3, 0.15e-3
"""What routing adds to a layer's launches, and each local expert (fp8 scales twice)."""
INTERFERENCE_S = 2e-5
MANY_NODES = 50.0
"""Hand-overs of message sizes stall in pipelines over about this many nodes and more."""
FLASH_2_MOST = 3.5e14
"""FLOP/s of FlashAttention-2 on chips faster than an A100: written for Ampere's instructions, it
uses 35% of an H100 (Shah et al. 2024, arXiv:2407.08608, section 1)."""
VENDOR_ATTENTION_SHARE = 0.47
"""cuDNN's attention on Hopper, 0.75 of FlashAttention-2's time (measured on an H200)."""
BUCKET_PARAMETERS = 12.5e6
"""Parameters of one gradient bucket: PyTorch's 25 MB of bf16."""
BIG_TENSORS = 4.0
"""Matrices of a layer: a tensor is never cut, so that no layer fills more buckets."""
DEVICE_WORK = (
    "matmul", "attention", "memory_bound", "tensor_parallel", "tensor_parallel_across_nodes",
    "latency",
)  # fmt: skip
"""Constants whose work runs on the device inside a micro batch, in column order."""


@dataclass(frozen=True)
class TimeParts:
    """Seconds at nominal efficiency.

    ``layer`` (n, DEVICE_WORK): one layer, one micro batch, forward and backward, without
    recomputation; ``recompute`` the same shape: what recomputation adds; ``head`` the output
    head with the loss. ``host`` is the launch time of one layer, ``stall`` what it waits when
    tensor-parallel calls queue behind a hand-over between nodes. ``p2p`` one hand-over between
    stages, ``hand_over_wait`` the host's wait at it; ``data_parallel`` and ``gather`` the
    step's gradient reduction and parameter gather.
    """

    layer: Floats
    recompute: Floats
    head: Floats
    host: Floats
    stall: Floats
    p2p: Floats
    hand_over_wait: Floats
    data_parallel: Floats
    gather: Floats
    data_parallel_latency: Floats
    data_parallel_each: Floats
    optimizer: Floats
    model_flops: Floats


def _column(name: str) -> int:
    return DEVICE_WORK.index(name)


class _Rates:
    """Peak rates of one GPU for one workload."""

    def __init__(self, hardware: Hardware, workload: Workload, layout: Layout) -> None:
        known = hardware.tflops
        wanted = normal_precision(workload.precision)
        rates = np.array([_rate(known, kind) for kind in MATMUL_KINDS])
        plain = rates[layout.matmul_kind.astype(np.intp)]
        fast = known.get("fp8", plain)
        if wanted == "fp4":
            fast = known.get("fp4", fast)
        self.matmul = 1e12 * np.where(layout.fp8 > 0, fast, plain)
        self.attention = 1e12 * plain
        self.memory = hardware.memory_gb_per_s * 1e9


def _rate(known: Mapping[str, float], kind: str) -> float:
    """TFLOP/s of a kind of product; hardware without TF32 does it in fp32."""
    second = "fp32" if kind == "tf32" else "bf16"
    return known.get(kind) or known.get(second) or max(known.values())


def _gemm(m: Floats, k: Floats | float, n: Floats | float, rates: _Rates) -> Floats:
    """Seconds of one matmul (m, k) x (k, n) of two-byte elements at nominal efficiency."""
    flops = 2.0 * m * k * n
    moved = 2.0 * (m * k + k * n + m * n)
    return np.asarray(flops / (0.7 * rates.matmul) + 0.5 * moved / rates.memory + KERNEL_START_S)


def _fused_attention_rate(layout: Layout, rates: _Rates, head_dim: int) -> Floats:
    """FLOP/s of fused attention, forward and backward together; small heads fill less."""
    filled = min(1.0, head_dim / 128.0)
    second = np.minimum(0.5 * rates.attention, FLASH_2_MOST) * filled**0.2
    flash = second / np.where(layout.first_flash > 0, 1.7, 1.0)
    vendor = VENDOR_ATTENTION_SHARE * filled**0.45 * rates.attention
    return np.asarray(np.where(layout.kernels.vendor_attention > 0, vendor, flash))


def _layer_forward(shape: ModelShape, layout: Layout, rates: _Rates, rules: Conventions) -> Floats:
    """Columns of one layer's forward pass for one micro batch, without communication."""
    h, heads, d = shape.hidden_size, shape.num_attention_heads, shape.head_dim
    tokens = layout.micro_batch * layout.seq / layout.cp
    tp, kv = layout.tp, shape.num_query_groups * shape.head_dim
    out = np.zeros((len(tokens), len(DEVICE_WORK)))
    matmul = _gemm(tokens, h, (heads * d + 2 * kv) / tp, rates)
    matmul = matmul + _gemm(tokens, heads * d / tp, h, rates)
    matmul = matmul + _mlp_matmuls(shape, layout, tokens, rates)
    out[:, _column("matmul")] = matmul
    scores = 4.0 * tokens * layout.seq * heads * d / tp
    flash = 0.5 * scores / _fused_attention_rate(layout, rates, d)
    full = scores / (0.45 * rates.attention)
    out[:, _column("attention")] = np.where(layout.materialised > 0, full, flash) + KERNEL_START_S
    region = np.where(layout.sequence_parallel > 0, tp, 1.0)
    fused = layout.fused_elementwise
    plain = 8.0 + 5.0 * rules.norm_copy_bytes
    norm = np.where(np.maximum(layout.fused_norm, layout.compiled) > 0, 22.0, plain) / region
    gated = 1.0 if shape.gated_linear_unit else 0.45
    ffn = gated * np.where(fused > 0, 8.0, 30.0) * shape.ffn_hidden_size / tp
    rope = np.where(fused > 0, 6.0, 14.0) * (heads * d + kv) / tp
    elementwise = h * norm * layout.kernels.residual + ffn + rope
    score_traffic = np.where(layout.fused_softmax > 0, 8.0, 22.0)
    score_bytes = layout.materialised * score_traffic * heads * layout.seq / layout.cp / tp
    out[:, _column("memory_bound")] = tokens * (elementwise + score_bytes) / rates.memory
    return out


def _mlp_matmuls(shape: ModelShape, layout: Layout, tokens: Floats, rates: _Rates) -> Floats:
    h, inputs = shape.hidden_size, 2 if shape.gated_linear_unit else 1
    sparse = expert_layer_count(shape) / shape.num_layers

    def pair(rows: Floats, width: int) -> Floats:
        inner = width / layout.tp
        return _gemm(rows, h, inputs * inner, rates) + _gemm(rows, inner, h, rates)

    time = (1 - sparse) * pair(tokens, shape.ffn_hidden_size)
    if sparse and shape.num_experts:
        width = shape.moe_ffn_hidden_size or shape.ffn_hidden_size
        local = np.maximum(shape.num_experts / layout.ep, 1.0)
        routed = tokens * shape.moe_router_topk
        time = time + sparse * local * pair(routed / local, width)
        if shape.moe_shared_expert_intermediate_size:
            time = time + sparse * pair(tokens, shape.moe_shared_expert_intermediate_size)
    return np.asarray(time)


def _add_tensor_parallel(
    out: Floats, shape: ModelShape, layout: Layout, fabric: Fabric, passes: float
) -> None:
    """Add the exposed tensor-, context- and expert-parallel traffic of one layer."""
    tokens = layout.micro_batch * layout.seq / layout.cp
    size = 2.0 * tokens * shape.hidden_size
    one = np.ones(len(tokens))
    calls = 4.0 * passes
    crossing = fabric.crosses(layout.tp, one)
    time = calls * fabric.half_collective(size, layout.tp, one) * (1.0 - layout.overlap_tp)
    time = time * np.where(crossing, CROWDED_TP * fabric.nodes(layout.tp, one) ** 0.7, 1.0)
    out[:, _column("tensor_parallel")] += np.where(crossing, 0.0, time)
    out[:, _column("tensor_parallel_across_nodes")] += np.where(crossing, time, 0.0)
    delay = calls * fabric.latency(layout.tp, one)
    far = calls * TP_START_ACROSS_S * fabric.nodes(layout.tp, one)
    out[:, _column("tensor_parallel_across_nodes")] += np.where(crossing, far + delay, 0.0)
    delay = np.where(crossing, 0.0, delay)
    kv = 2.0 * tokens * 2.0 * shape.num_query_groups * shape.head_dim / layout.tp
    ring = 0.3 * passes * fabric.half_collective(kv * layout.cp, layout.cp, layout.tp)
    out[:, _column("tensor_parallel")] += ring
    delay = delay + passes * (layout.cp - 1.0) * fabric.latency(np.minimum(layout.cp, 2), layout.tp)
    if shape.num_experts:
        share = expert_layer_count(shape) / shape.num_layers
        routed = size * shape.moe_router_topk * share / layout.tp
        stride = layout.tp * layout.cp
        time = 2.0 * passes * fabric.half_collective(routed, layout.ep, stride)
        out[:, _column("tensor_parallel")] += time
        delay = delay + 2.0 * passes * share * fabric.latency(layout.ep, stride)
    out[:, _column("latency")] += delay


def _head(
    shape: ModelShape, layout: Layout, rates: _Rates, rules: Conventions, workload: Workload
) -> Floats:
    """Output head and loss of one micro batch, forward and backward."""
    tokens = layout.micro_batch * layout.seq / layout.cp
    vocab = padded_vocab(shape, rules, layout.tp)
    held = vocab / layout.tp if rules.whole_logit_bytes == 0.0 else vocab
    out = np.zeros((len(tokens), len(DEVICE_WORK)))
    products = 3.0 * _gemm(tokens, shape.hidden_size, vocab / layout.tp, rates)
    out[:, _column("matmul")] = products * layout.kernels.head
    bytes_moved = tokens * held * layout.kernels.loss_bytes
    bytes_moved = bytes_moved + _accumulation_bytes(
        vocab / layout.tp * shape.hidden_size * workload.trainable_share, layout, rules
    )
    out[:, _column("memory_bound")] = bytes_moved / rates.memory
    return out


def _accumulation_bytes(parameters: Floats, layout: Layout, rules: Conventions) -> Floats:
    """Traffic of adding one micro batch's gradients to their buffer: read both, write one.

    Whatever the micro batch's size, so that small ones pay for it most. Fused into the weight
    gradient's product (Megatron's fp32 ``main_grad``) half of it is hidden like a product's
    other traffic, and the bf16 gradient is never written.
    """
    each = 2.0 * rules.gradient_bytes + 2.0
    if rules.fused_kernels:
        each = 0.5 * (2.0 * rules.gradient_bytes - 2.0)
    return np.asarray(np.where(layout.zero < 2, each, 0.0) * parameters)


def _data_parallel(
    shape: ModelShape, layout: Layout, rules: Conventions, workload: Workload, fabric: Fabric
) -> tuple[Floats, Floats, Floats, Floats]:
    """Seconds of (gradient reduction, parameter gather, start-ups, traffic per micro batch)."""
    ordinary, experts = local_parameters(shape, rules, layout)
    heaviest = np.maximum(np.maximum(ordinary[0], ordinary[1]), ordinary[2])
    expert_share = np.maximum(np.maximum(experts[0], experts[1]), experts[2])
    ranks, stride = layout.dp * layout.cp, layout.tp
    size = element_bytes(workload.precision)
    apart, spread = np.maximum(ranks / layout.ep, 1.0), stride * layout.ep

    def half(width: Floats | float) -> Floats:
        ordinary_time = fabric.half_collective(heaviest * width, ranks, stride)
        return ordinary_time + fabric.half_collective(expert_share * width, apart, spread)

    trained = workload.trainable_share
    reduce = half(rules.gradient_bytes * trained)
    gather = np.where(layout.zero >= 1, half(size * trained), 0.0)
    once = np.where(layout.zero >= 1, reduce, 2.0 * reduce)
    each = fabric.half_collective((heaviest + expert_share) * size * 3.0, ranks, stride)
    layers = np.maximum(np.maximum(layout.stages.first, layout.stages.middle), layout.stages.last)
    sharded = layout.zero >= 3
    if rules.gathered_in_pipelines:
        sharded &= layout.pp == 1
    delay = fabric.latency(ranks, stride)
    buckets = (heaviest + expert_share) / BUCKET_PARAMETERS
    buckets = np.clip(buckets, 1.0, np.maximum(BIG_TENSORS * layers, 1.0))
    latency = np.where(layout.zero >= 1, 1.0, 0.5) * delay * buckets
    latency = np.where(sharded, delay * 3.0 * layers * layout.microbatches, latency)
    return (
        np.where(sharded, 0.0, once),
        np.where(sharded, 0.0, gather),
        latency,
        np.where(sharded, each, 0.0),
    )


def _selective_again(forward: Floats, rules: Conventions, layout: Layout) -> Floats:
    """What selective recomputation does again of a forward pass."""
    again = np.zeros_like(forward)
    attention = _column("attention")
    if rules.selective_by_operator:
        again = forward.copy()
        again[:, _column("matmul")] *= 0.5
    again[:, attention] = forward[:, attention] * layout.materialised
    return again


def time_parts(
    shape: ModelShape, layout: Layout, rules: Conventions, workload: Workload,
    hardware: Hardware, fabric: Fabric,
) -> TimeParts:  # fmt: skip
    """Every column of seconds for n rows."""
    rates = _Rates(hardware, workload, layout)
    forward = _layer_forward(shape, layout, rates, rules)
    layer = 3.0 * forward
    layer[:, _column("matmul")] *= (2.0 + workload.trainable_share) / 3.0
    layer[:, _column("attention")] = 3.5 * forward[:, _column("attention")]
    ordinary, experts = layer_parameters(shape, layout)
    parameters = (ordinary + experts) * workload.trainable_share
    layer[:, _column("memory_bound")] += (
        _accumulation_bytes(parameters, layout, rules) / rates.memory
    )
    recompute = forward * layout.recompute_full[:, None]
    recompute += _selective_again(forward, rules, layout) * layout.recompute_attention[:, None]
    _add_tensor_parallel(layer, shape, layout, fabric, 2.0)
    extra = np.zeros_like(forward)
    _add_tensor_parallel(extra, shape, layout, fabric, 1.0)
    recompute += extra * layout.recompute_full[:, None]
    tokens = layout.micro_batch * layout.seq / layout.cp
    boundary = 2.0 * tokens * shape.hidden_size
    boundary = boundary / np.where(layout.sequence_parallel > 0, layout.tp, 1.0)
    stride = layout.tp * layout.cp * layout.dp
    once, gather, latency, each = _data_parallel(shape, layout, rules, workload, fabric)
    ends, expert_ends = local_parameters(shape, rules, layout)
    states = np.maximum(ends[0], ends[2]) + np.maximum(expert_ends[0], expert_ends[2])
    states = states * workload.trainable_share / np.where(layout.zero >= 1, layout.shard, 1.0)
    offload = layout.offload_optimizer * states * 32.0 / (hardware.host_link.gb_per_s * 1e9)
    host = np.where(layout.fused_elementwise > 0, *HOST_LAYER_S[::-1])
    host = host + np.where(layout.tp > 1, HOST_COLLECTIVES_S, 0.0)
    if shape.num_experts:
        local = np.maximum(shape.num_experts / layout.ep, 1.0)
        launches = HOST_ROUTING_S + HOST_EXPERT_S * local * (1.0 + layout.fp8)
        host = host + launches * expert_layer_count(shape) / shape.num_layers
    host = host * layout.kernels.host * (1.0 + layout.recompute_full / 3.0)
    across = fabric.crosses(layout.pp, stride)
    crowd = layout.tp * fabric.nodes(layout.tp, np.ones(len(stride))) ** 0.5
    stall = np.where(across & (layout.tp > 1), INTERFERENCE_S * crowd, 0.0)
    return TimeParts(
        layer=layer, recompute=recompute, head=_head(shape, layout, rates, rules, workload),
        host=host, stall=stall,
        p2p=np.where(layout.pp > 1, 2.0 * fabric.point_to_point(boundary, stride), 0.0),
        hand_over_wait=_hand_over_wait(layout, rules, fabric),
        data_parallel=once, gather=gather, data_parallel_latency=latency,
        data_parallel_each=each,
        optimizer=states * 40.0 / rates.memory + offload + _optimizer_launches(shape, layout),
        model_flops=_model_flops(shape, layout),
    )  # fmt: skip


def _optimizer_launches(shape: ModelShape, layout: Layout) -> Floats:
    """Host seconds of walking the parameter tensors: matrices, norms and biases of each layer."""
    tensors = shape.num_layers * (6.0 + 6.0 * shape.add_bias_linear + shape.gated_linear_unit)
    return layout.kernels.optimizer_launch_s * tensors


def _hand_over_wait(layout: Layout, rules: Conventions, fabric: Fabric) -> Floats:
    """Seconds per micro batch: one neighbour on the end stages, two in the middle."""
    nodes = layout.world / fabric.gpus_per_node
    crowded = 1.0 / (1.0 + (MANY_NODES / nodes) ** 20)
    return np.asarray(rules.hand_over_wait_s * np.minimum(layout.pp - 1.0, 2.0) * crowded)


def _model_flops(shape: ModelShape, layout: Layout) -> Floats:
    batch_tokens = layout.microbatches * layout.micro_batch * layout.dp * layout.seq
    fixed = flops_per_token(shape, 0)
    per_length = flops_per_token(shape, 1) - fixed
    return np.asarray(batch_tokens * (fixed + per_length * layout.seq))
