"""What the switches of a plain PyTorch program change: kernels of the loss, the residual stream,
attention and the optimizer.

Frameworks choose these themselves, so every column here is neutral where a space does not offer
the switch. Bytes and kernel counts are read off the programs (`runners/torch_trainer`); measured
on one H200 they put the rungs of the GPT-2 ladder within a few percent
(`analysis/results/h200`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.costmodel.columns import ColumnReader
from autotune.costmodel.workload import Conventions, Workload, normal_precision

Floats = npt.NDArray[np.float64]

EAGER_LOSS_BYTES = 55.0
"""Traffic per logit of an eager fp32 loss, forward and backward."""
COMPILED_LOSS_BYTES, FUSED_LOSS_BYTES, FP8_LOSS_BYTES = 16.0, 8.0, 10.0
OPTIMIZER_LAUNCH_S = {"for_loop": 1.0e-4, "foreach": 1.2e-5, "fused": 2e-6}
"""Host time for each parameter tensor: about 14 launches each, a few for all, one."""
UNALIGNED_HEAD = 2.5
"""Slow-down of a bf16 product whose width is odd: tensor cores want multiples of eight."""
VENDOR_ATTENTION = ("cudnn", "auto")
"""Back ends that use the vendor's own fused attention where the chip has one."""
GRAPHS = ("reduce-overhead", "max-autotune")


@dataclass(frozen=True)
class Kernels:
    """Arrays of n. ``loss_bytes`` is traffic per logit; ``held_logits`` the share of the
    framework's loss memory that exists at once; ``head`` multiplies the time of the output
    layer's products; ``vendor_attention`` is 1 where fused attention is the GPU vendor's own
    and not FlashAttention-2; ``residual`` multiplies the traffic of the residual stream;
    ``optimizer_launch_s`` is seconds per parameter tensor and step; ``host`` multiplies a layer's
    launch time.
    """

    loss_bytes: Floats
    held_logits: Floats
    head: Floats
    vendor_attention: Floats
    residual: Floats
    optimizer_launch_s: Floats
    host: Floats


def read_kernels(
    read: ColumnReader, rules: Conventions, workload: Workload, vocab_size: int
) -> Kernels:
    """The kernels that n rows of switches choose; neutral for switches that are not there."""
    compiled = read.shares(("compile",), 0.0)
    whole = compiled * (read.texts("compile_scope", "model") == "model")
    loss_bytes, held = _loss(read, rules, compiled, whole)
    backend = read.texts("attention_backend", rules.attention_backend)
    launches = read.texts("optimizer_implementation", "fused")
    per_tensor = [OPTIMIZER_LAUNCH_S.get(name, 0.0) for name in launches]
    offered = "optimizer_implementation" in read.columns
    graphs = np.isin(read.texts("compile_mode", "default"), GRAPHS) & (whole > 0)
    return Kernels(
        loss_bytes=loss_bytes,
        held_logits=held,
        head=_head_products(read, workload, vocab_size),
        vendor_attention=np.isin(backend, VENDOR_ATTENTION).astype(float),
        residual=_residual(read, workload),
        optimizer_launch_s=np.array(per_tensor) * offered,
        host=np.where(graphs, 0.1, np.where(compiled > 0, 0.45, 1.0)),
    )


def _loss(
    read: ColumnReader, rules: Conventions, compiled: Floats, whole: Floats
) -> tuple[Floats, Floats]:
    """(bytes moved per logit, share of the framework's bytes per logit held at once).

    A loss in chunks has its kernel compiled by itself; a full one only with the ``whole`` model.
    """
    kinds = read.texts("cross_entropy", "full")
    if "cross_entropy" not in read.columns:
        return np.full(read.rows, EAGER_LOSS_BYTES), np.ones(read.rows)
    chunked, fused = (np.char.startswith(kinds, word) for word in ("chunk", "fuse"))
    fp8 = read.texts("lm_head_precision", "same") == "fp8"
    chunks = np.maximum(read.numbers("cross_entropy_chunks", 8), 1.0)
    eager = rules.logit_bytes + rules.whole_logit_bytes
    compiled = np.where(chunked, compiled, whole)
    held = np.where(compiled > 0, 2.0, eager)
    held = np.where(chunked, np.where(compiled > 0, 6.0, eager) / chunks, held)
    held = np.where(fused, np.where(fp8, 4.0, 2.0) / chunks, held)
    moved = np.where(compiled > 0, COMPILED_LOSS_BYTES, EAGER_LOSS_BYTES)
    moved = np.where(fused, np.where(fp8, FP8_LOSS_BYTES, FUSED_LOSS_BYTES), moved)
    return moved, held / eager


def _head_products(read: ColumnReader, workload: Workload, vocab_size: int) -> Floats:
    if "make_vocab_size_divisible_by" not in read.columns:
        return np.ones(read.rows)
    multiple = np.maximum(read.numbers("make_vocab_size_divisible_by", 1), 1.0)
    width = np.ceil(vocab_size / multiple) * multiple
    slow = np.where((width % 8 != 0) & _below_fp32(read, workload), UNALIGNED_HEAD, 1.0)
    return slow * np.where(read.texts("lm_head_precision", "same") == "fp8", 0.6, 1.0)


def _residual(read: ColumnReader, workload: Workload) -> Floats:
    """Autocast keeps an fp32 residual stream unless the program casts it."""
    if "residual_dtype" not in read.columns:
        return np.ones(read.rows)
    wide = read.texts("residual_dtype", "fp32") == "fp32"
    return np.where(wide & _below_fp32(read, workload), 1.4, 1.0)


def _below_fp32(read: ColumnReader, workload: Workload) -> npt.NDArray[np.bool_]:
    """Rows whose products run in a narrower type than fp32."""
    precisions = read.texts("precision", workload.precision)
    return np.array([normal_precision(name) != "fp32" for name in precisions], dtype=bool)
