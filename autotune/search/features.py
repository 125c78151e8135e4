"""Turns the rows of a legal set into numbers among which nearness means likeness.

Sizes count in doublings, flags as 0 and 1, names as one column each; a parameter that does not
exist in a row sits beside its smallest value. For parameters with Megatron's names an expert's
rough expectation of their effect on step time comes along: wide, but better than none where no
cost model is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.config import ParameterValue
from autotune.search.proposal import LegalRows

FloatArray = NDArray[np.float64]

EXPECTED_SLOPES: dict[str, tuple[float, float]] = {
    "tensor_model_parallel_size": (0.08, 0.12),
    "pipeline_model_parallel_size": (0.06, 0.10),
    "context_parallel_size": (0.08, 0.12),
    "expert_model_parallel_size": (0.03, 0.12),
    "virtual_pipeline_model_parallel_size": (-0.03, 0.06),
    "micro_batch_size": (-0.05, 0.10),
    "zero_stage": (0.02, 0.05),
    "sequence_parallel": (-0.03, 0.06),
    "recompute_num_layers": (0.03, 0.05),
    "recompute_granularity=full": (0.22, 0.10),
    "recompute_granularity=selective": (0.03, 0.04),
    "cpu_offload": (0.4, 0.3),
    "torch_compile": (-0.1, 0.1),
}
"""Mean and deviation of the change in log step time per doubling (sizes) or when switched on."""

ACROSS_NODES = (0.5, 0.4)
THIN_MATRICES = (0.2, 0.2)
OTHER_SLOPE = (0.0, 0.15)


@dataclass(frozen=True)
class Features:
    """``values`` is float64 (rows, columns); ``slope`` and ``slope_sigma`` expect log-time effects.

    ``names`` are parameter names, with ``=value`` for one value of a name-valued parameter;
    ``sources`` give each column's parameter and the number each of its values becomes.
    """

    names: tuple[str, ...]
    values: FloatArray
    effects: FloatArray
    slope: FloatArray
    slope_sigma: FloatArray
    sources: tuple[tuple[str, dict[ParameterValue, float]], ...]

    def encode(self, config: Mapping[str, ParameterValue]) -> FloatArray:
        """The features (columns,) of any combination of values on offer, legal or not."""
        return np.array([scale[config.get(name)] for name, scale in self.sources])


def build_features(legal: LegalRows) -> Features:
    """Features of every row of a legal set, in its order; parameters with one value add none."""
    names: list[str] = []
    columns: list[FloatArray] = []
    sources: list[tuple[str, dict[ParameterValue, float]]] = []
    for position, name in enumerate(legal.names):
        codes = np.asarray(legal.codes[:, position], dtype=np.int64)
        choices = tuple(legal.choices[name])
        for label, scale in _scales(name, choices):
            values = np.append(scale, scale.min())[codes]
            if np.ptp(values) > 0.0:
                names.append(label)
                columns.append(values)
                by_value = dict(zip(choices, scale.tolist(), strict=True))
                sources.append((name, {None: float(scale.min()), **by_value}))
    values = np.column_stack(columns) if columns else np.zeros((len(legal), 0))
    slopes = [EXPECTED_SLOPES.get(label, OTHER_SLOPE) for label in names]
    extra = _expert_effects(legal)
    slopes += [slope for _, slope in extra]
    return Features(
        tuple(names),
        values,
        np.column_stack([values, *(column for column, _ in extra)]),
        np.array([mean for mean, _ in slopes]),
        np.array([sigma for _, sigma in slopes]),
        tuple(sources),
    )


def _expert_effects(legal: LegalRows) -> list[tuple[FloatArray, tuple[float, float]]]:
    """Effects of two parameters together, each with its expected slope.

    Tensor parallelism beyond a node of 8 crosses the slow links; a micro batch much smaller than
    the tensor parallel size leaves matrices too thin and latency bare.
    """
    if "tensor_model_parallel_size" not in legal.names:
        return []
    tensor = _doublings(legal, "tensor_model_parallel_size")
    found = [(np.maximum(tensor - 3.0, 0.0), ACROSS_NODES)]
    if "micro_batch_size" in legal.names:
        thin = np.maximum(tensor - _doublings(legal, "micro_batch_size"), 0.0)
        found.append((thin, THIN_MATRICES))
    return [(column, slope) for column, slope in found if np.ptp(column) > 0.0]


def _doublings(legal: LegalRows, name: str) -> FloatArray:
    numbers = [
        float(c) if isinstance(c, (int, float)) and c > 0 else 1.0 for c in legal.choices[name]
    ]
    codes = legal.codes[:, list(legal.names).index(name)]
    return np.asarray(np.log2(np.array([*numbers, 1.0])[codes]))


def _scales(name: str, choices: Sequence[ParameterValue]) -> list[tuple[str, FloatArray]]:
    """The columns of one parameter: their labels and the number each choice becomes."""
    numeric = [c for c in choices if isinstance(c, (int, float)) and not isinstance(c, bool)]
    known = [c for c in choices if c is not None]
    if known and len(numeric) == len(known):
        return [(name, _numbers(choices, [float(c) for c in numeric]))]
    if known and all(isinstance(c, bool) for c in known):
        return [(name, np.array([float(bool(c)) for c in choices]))]
    return [(f"{name}={value}", np.array([float(c == value) for c in choices])) for value in known]


def _numbers(choices: Sequence[ParameterValue], numeric: list[float]) -> FloatArray:
    """Doublings where all values are positive and span one, else the span as 0 to 2."""
    low, high = min(numeric), max(numeric)
    values = np.array([low if c is None else float(c) for c in choices])
    if low > 0.0 and high >= 2.0 * low and high - low > 1.0:
        return np.log2(values / low)
    if high - low <= 4.0 and all(float(n).is_integer() for n in numeric):
        return values - low
    span = high - low
    return 2.0 * (values - low) / span if math.isfinite(span) and span > 0.0 else values * 0.0
