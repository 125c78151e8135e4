"""Columns of canonical parameters, made complete: every row says every size it runs with.

A space may search few parameters; what it leaves out takes the framework's default here, once,
so that the physics below never asks whether a column exists.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.costmodel.columns import ColumnReader, Columns
from autotune.costmodel.kernels import Kernels, read_kernels
from autotune.costmodel.stages import StageCuts, cut_stages
from autotune.costmodel.workload import Conventions, Workload, normal_precision
from autotune.space.model import ModelShape

Floats = npt.NDArray[np.float64]

MATERIALISED = ("unfused", "local", "torch", "eager", "math", "fused_softmax", "fused")
"""Attention back ends that hold the whole score matrix."""

MATMUL_KINDS = ("fp32", "tf32", "fp16", "bf16")
"""Precisions of ordinary matrix products, by the hardware table's names."""


@dataclass(frozen=True)
class Layout:
    """One array of n values for everything that time and memory depend on.

    Sizes are counts; ``microbatches`` is the gradient accumulation per pipeline;
    ``recompute_full`` the share of layers recomputed whole, ``recompute_block`` the layers
    between two checkpoints; ``recompute_attention``, ``materialised`` and the offload and
    overlap columns are shares in [0, 1]; ``v_share`` the share of 1F1B's activations that a
    V-shaped schedule holds on every stage, 0 for other schedules. ``shard`` is how many ranks
    share ZeRO's states, ``matmul_kind`` indexes MATMUL_KINDS: the precision of ordinary matrix
    products.
    """

    tp: Floats
    pp: Floats
    vpp: Floats
    cp: Floats
    ep: Floats
    dp: Floats
    micro_batch: Floats
    microbatches: Floats
    seq: Floats
    zero: Floats
    sequence_parallel: Floats
    recompute_full: Floats
    recompute_block: Floats
    recompute_attention: Floats
    materialised: Floats
    fused_softmax: Floats
    first_flash: Floats
    fused_norm: Floats
    fused_elementwise: Floats
    compiled: Floats
    matmul_kind: Floats
    fp8: Floats
    offload_optimizer: Floats
    offload_parameters: Floats
    offload_activations: Floats
    overlap_dp: Floats
    overlap_tp: Floats
    all_forward_first: Floats
    v_share: Floats
    bubble_scale: Floats
    shard: Floats
    kernels: Kernels
    stages: StageCuts

    @property
    def world(self) -> Floats:
        """GPUs that the row uses."""
        return self.tp * self.pp * self.cp * self.dp

    def take(self, rows: npt.NDArray[np.intp]) -> Layout:
        """The same layout for a subset of rows."""
        picked: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            picked[item.name] = value.take(rows) if item.name == "stages" else value[rows]
        return Layout(**picked)


def complete_layout(
    columns: Columns, shape: ModelShape, workload: Workload, rules: Conventions, world: int
) -> Layout:
    """Fill in what the columns leave out; n rows in, n rows out."""
    read = ColumnReader(columns)
    tp = read.numbers("tensor_model_parallel_size", 1)
    pp = read.numbers("pipeline_model_parallel_size", 1)
    cp = read.numbers("context_parallel_size", 1)
    vpp = np.maximum(read.numbers("virtual_pipeline_model_parallel_size", 1), 1)
    dp = read.numbers("data_parallel_size", 0)
    dp = np.where(dp > 0, dp, np.maximum(world // (tp * pp * cp), 1))
    micro_batch = read.numbers("micro_batch_size", 1)
    batch = read.numbers("global_batch_size", workload.global_batch_size)
    microbatches = np.maximum(batch / (micro_batch * dp), 1.0)
    attention = read.texts("attention_backend", rules.attention_backend)
    precision = read.texts("precision", workload.precision)
    schedule = read.texts("pipeline_schedule", "1f1b")
    compiled = read.shares(("torch_compile", "compile"), 0.0)
    zero = _zero_stage(read, rules)
    full, block, selective = _recompute(read, shape, pp, vpp)
    return Layout(
        tp=tp, pp=pp, vpp=vpp, cp=cp, dp=dp, micro_batch=micro_batch, microbatches=microbatches,
        ep=np.maximum(read.numbers("expert_model_parallel_size", 1), 1),
        seq=read.numbers("seq_length", workload.seq_length),
        zero=zero,
        sequence_parallel=np.where(
            tp > 1, read.shares(("sequence_parallel",), float(rules.sequence_parallel)), 0.0
        ),
        recompute_full=full, recompute_block=block, recompute_attention=selective,
        materialised=np.isin(attention, MATERIALISED).astype(float),
        first_flash=(attention == "flash1").astype(float),
        fused_softmax=np.isin(attention, ("fused", "fused_softmax")).astype(float),
        fused_norm=read.shares(("fused_normalization",), float(rules.fused_kernels)),
        fused_elementwise=np.maximum(float(rules.fused_kernels), compiled),
        compiled=compiled,
        matmul_kind=_matmul_kind(read, workload),
        fp8=np.array([normal_precision(p) in ("fp8", "fp4") for p in precision], dtype=float),
        offload_optimizer=read.shares(("optimizer_cpu_offload", "offload_optimizer"), 0.0),
        offload_parameters=read.shares(("offload_parameters", "offload_param"), 0.0),
        offload_activations=read.shares(("cpu_offloading", "offload_activations"), 0.0),
        overlap_dp=read.shares(("overlap_grad_reduce", "overlap_comm"), 1.0)
        * rules.overlap_data_parallel
        * np.where(zero == 1, rules.overlap_sharded, 1.0),
        overlap_tp=np.maximum(
            read.shares(("tp_comm_overlap", "async_tensor_parallel"), 0.0) * 0.7,
            rules.overlap_tensor_parallel,
        ),
        all_forward_first=np.isin(schedule, ("afab", "gpipe")).astype(float),
        v_share=_v_share(schedule),
        bubble_scale=np.where(np.char.startswith(schedule, "z"), 1.0 / 3.0, 1.0),
        shard=dp * cp / np.clip(read.numbers("data_parallel_replicate_size", 1), 1, dp * cp),
        kernels=read_kernels(read, rules, workload, shape.vocab_size),
        stages=cut_stages(shape, rules, pp),
    )  # fmt: skip


def _matmul_kind(read: ColumnReader, workload: Workload) -> Floats:
    """Codes of MATMUL_KINDS; PyTorch's ``matmul_precision: high`` lets fp32 products use TF32."""
    tensor_cores = read.texts("matmul_precision", "highest") != "highest"
    kinds = [normal_precision(name) for name in read.texts("precision", workload.precision)]
    codes = np.array(
        [MATMUL_KINDS.index(kind if kind in MATMUL_KINDS else "bf16") for kind in kinds],
        dtype=np.float64,
    )
    high = tensor_cores & (codes == MATMUL_KINDS.index("fp32"))
    return np.where(high, float(MATMUL_KINDS.index("tf32")), codes)


def _v_share(schedule: npt.NDArray[np.str_]) -> Floats:
    """Qi et al. 2024 (arXiv:2405.15362): V-Min, V-Half and V-ZB hold 1/3, 1/2 and all of 1F1B's."""
    share = np.zeros(len(schedule))
    for name, held in (("v-min", 1.0 / 3.0), ("v-half", 0.5), ("zbv", 1.0)):
        share = np.where(np.char.startswith(schedule, name), held, share)
    return share


def _zero_stage(read: ColumnReader, rules: Conventions) -> Floats:
    if "zero_stage" in read.columns:
        return read.numbers("zero_stage", rules.zero_stage)
    if "data_parallel" in read.columns:
        kinds = read.texts("data_parallel", "ddp")
        return np.where(np.char.startswith(kinds, "fsdp"), 3.0, 0.0)
    if "use_distributed_optimizer" in read.columns:
        return np.where(read.shares(("use_distributed_optimizer",), 0.0) > 0, 1.0, 0.0)
    return np.full(read.rows, float(rules.zero_stage))


def _recompute(
    read: ColumnReader, shape: ModelShape, pp: Floats, vpp: Floats
) -> tuple[Floats, Floats, Floats]:
    """(share of layers recomputed whole, layers per checkpoint, attention recomputed)."""
    kind = read.texts("recompute_granularity", "none")
    flags = read.shares(("activation_checkpointing", "gradient_checkpointing"), 0.0)
    if "disable_gradient_checkpointing" in read.columns:
        flags = 1.0 - read.shares(("disable_gradient_checkpointing",), 0.0)
    whole = (kind == "full") | ((flags > 0) & (kind == "none"))
    method = read.texts("recompute_method", "uniform")
    layers = read.numbers("recompute_num_layers", 0)
    per_chunk = np.maximum(shape.num_layers / (pp * vpp), 1.0)
    share = np.where((method == "block") & (layers > 0), np.minimum(layers / per_chunk, 1.0), 1.0)
    block = np.where((method == "uniform") & (layers > 0), np.minimum(layers, per_chunk), 1.0)
    every = _every_nth_layer(read) * (kind == "selective")
    operators = (kind == "selective") & (every == 0)
    return np.where(every > 0, every, whole * share), block, operators.astype(float)


def _every_nth_layer(read: ColumnReader) -> Floats:
    """torchtitan's selective option: recompute every n-th layer whole (1 / n); 0 by operator."""
    options = read.texts("selective_ac_option", "op")
    return np.array([1.0 / int(o) if o.isdigit() and int(o) else 0.0 for o in options.tolist()])
