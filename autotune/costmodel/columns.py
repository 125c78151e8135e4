"""Columns of parameters, whatever their types, and the few distinct rows among them.

A legal set of a million configs often holds a few thousand distinct layouts: only parameters
named here matter to memory and speed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Columns = Mapping[str, npt.ArrayLike]
Rows = npt.NDArray[np.intp]

READ = frozenset({
    "tensor_model_parallel_size", "pipeline_model_parallel_size",
    "virtual_pipeline_model_parallel_size", "context_parallel_size",
    "expert_model_parallel_size", "data_parallel_size", "micro_batch_size", "global_batch_size",
    "seq_length", "zero_stage", "use_distributed_optimizer", "data_parallel",
    "sequence_parallel", "recompute_granularity", "recompute_method", "recompute_num_layers",
    "selective_ac_option", "activation_checkpointing", "gradient_checkpointing",
    "attention_backend", "precision",
    "matmul_precision",
    "fused_normalization", "torch_compile", "compile", "optimizer_cpu_offload",
    "offload_optimizer", "offload_parameters", "offload_param", "cpu_offloading",
    "offload_activations", "overlap_grad_reduce", "overlap_comm", "tp_comm_overlap",
    "async_tensor_parallel", "pipeline_schedule", "cross_entropy", "data_parallel_replicate_size",
    "disable_gradient_checkpointing", "flash_attn", "residual_dtype", "cross_entropy_chunks",
    "lm_head_precision", "make_vocab_size_divisible_by", "optimizer_implementation",
    "compile_mode", "compile_scope",
})  # fmt: skip
"""Parameter names that change a prediction; all others are ignored."""
_MOST_CODES = 1 << 40


def distinct_rows(columns: Columns) -> tuple[dict[str, npt.NDArray[np.generic]], Rows]:
    """(columns of the distinct rows, which of them each row is); ValueError on ragged columns."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    sizes = {len(values) for values in arrays.values()}
    if len(sizes) > 1:
        raise ValueError(f"columns of different lengths: {sorted(sizes)}")
    rows = sizes.pop() if sizes else 0
    used = {name: values for name, values in arrays.items() if name in READ}
    key, span = np.zeros(rows, dtype=np.int64), 1
    for values in used.values():
        code, count = _codes(values)
        if span * count > _MOST_CODES:
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
            span = int(key.max(initial=0)) + 1
        key, span = key * count + code, span * count
    _, first, row = np.unique(key, return_index=True, return_inverse=True)
    return {name: values[first] for name, values in used.items()}, row


def _codes(values: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.int64], int]:
    """Small integers that are equal where values are equal, and how many there are."""
    if values.dtype == object or values.dtype.kind in "US":
        known: dict[object, int] = {}
        items = values.tolist()
        codes = np.fromiter((known.setdefault(v, len(known)) for v in items), np.int64, len(items))
        return codes, max(len(known), 1)
    _, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), int(codes.max(initial=0)) + 1


class ColumnReader:
    """Reads one column after another; a missing name or None gives the default."""

    def __init__(self, columns: Columns) -> None:
        self.columns = {name: np.asarray(values) for name, values in columns.items()}
        self.rows = max((len(values) for values in self.columns.values()), default=0)

    def numbers(self, name: str, default: float) -> Floats:
        """A column as floats; booleans are 0 and 1."""
        values = self.columns.get(name)
        if values is None:
            return np.full(self.rows, float(default))
        if values.dtype != object:
            return np.asarray(values, dtype=np.float64)
        return np.array([default if v is None else float(v) for v in values], dtype=np.float64)

    def shares(self, names: tuple[str, ...], default: float) -> Floats:
        """The first of several flag columns; a number in [0, 1] is kept as a share."""
        for name in names:
            if name in self.columns:
                return np.clip(self.numbers(name, default), 0.0, 1.0)
        return np.full(self.rows, default)

    def texts(self, name: str, default: str) -> npt.NDArray[np.str_]:
        """A column as lower-case text; None and the empty text give the default."""
        values = self.columns.get(name)
        if values is None:
            return np.full(self.rows, default, dtype="U32")
        items = (default if v is None or v == "" else str(v).lower() for v in values.tolist())
        return np.array(list(items), dtype="U32")
