"""The simulated cluster's truth: the cost model plus effects that no search can see.

Drawn by seed, within the bounds below: every efficiency and link is off by a factor of its own,
every value of a layout parameter has its own small effect on time, memory differs from what the
cost model says, and flags that the cost model does not know (`overlap_param_gather`,
`empty_unused_memory_level`) have an effect too. The same seed gives the same machine to every
trial of a study and to `scripts/bench/simulated_optimum.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autotune.costmodel.constants import NAMES
from autotune.costmodel.layout import Layout, complete_layout
from autotune.costmodel.memory import local_parameters
from autotune.costmodel.model import CostModel

Floats = NDArray[np.float64]

EFFICIENCY_SPREAD = 0.25
MATMUL_SPREAD = 0.12
MEMORY_SPREAD = 0.10
WORK = ("compute", "recompute", "exposed_tp", "pipeline_bubble", "p2p")
"""Parts of a step that a layout's own efficiency stretches."""

_AXIS_EFFECTS = {
    "tp": 0.07, "pp": 0.04, "vpp": 0.04, "cp": 0.05, "micro_batch": 0.05,
    "sequence_parallel": 0.03, "recompute_block": 0.015,
}  # fmt: skip
_PAIR_EFFECTS = (("tp", "micro_batch", 0.02), ("pp", "micro_batch", 0.015))
_RESIDUAL = 0.008


@dataclass(frozen=True)
class Truth:
    """What really happens in n layouts on the machine of one seed.

    ``step_time_s`` (n,) is a step's median; ``memory_gib`` (n, 3) what a GPU of the first, a
    middle and the last pipeline stage needs, ``states_gib`` (n, 3) what of it holds weights,
    gradients and optimizer, ``parameters`` (n, 3) how many it holds; ``noise`` is the relative
    jitter of single steps.
    """

    step_time_s: Floats
    memory_gib: Floats
    states_gib: Floats
    parameters: Floats
    tflops_per_gpu: Floats
    noise: float

    def fits(self, capacity_gib: float) -> NDArray[np.bool_]:
        """Rows whose fullest GPU stays within its memory."""
        return np.asarray(self.memory_gib.max(axis=1) <= capacity_gib)


def true_step_time_and_memory(
    model: CostModel, columns: Mapping[str, ArrayLike], seed: int
) -> Truth:
    """The truth of every row of ``columns`` (canonical names, arrays of n) on machine ``seed``.

    Efficiencies and links differ from the cost model by up to 25%, a layout's own efficiency by
    up to 25%, memory by up to 10%.
    """
    table = model.prepare(columns)
    layout = complete_layout(
        columns, model.shape, model.workload, model.conventions, model.cluster.world_size
    )
    mean = table.constants.mean + _drawn_constants(seed)
    parts = table.time_by_part(mean)
    stretch = layout_stretch(layout, seed)
    gather = _column(columns, "overlap_param_gather", len(table))
    parts["exposed_dp"] = parts["exposed_dp"] * (1.0 - _draw(seed, 71, 0.15, 0.4) * gather)
    busy = sum(parts[name] for name in WORK) * stretch
    rest = sum(values for name, values in parts.items() if name not in WORK)
    level = _column(columns, "empty_unused_memory_level", len(table))
    allocator = 1.0 + level * _draw(seed, 72, 0.004, 0.02)
    step = np.asarray((busy + rest) * allocator)
    memory = table.memory_by_part(table.constants.mean)
    off = memory_factor(layout, seed) - level * _draw(seed, 73, 0.0, 0.008)
    ordinary, experts = local_parameters(model.shape, model.conventions, layout)
    factor = np.clip(off, 1.0 - MEMORY_SPREAD, 1.0 + MEMORY_SPREAD)[:, None]
    return Truth(
        step_time_s=step,
        memory_gib=memory.sum(axis=2) * factor,
        states_gib=memory[:, :, :3].sum(axis=2) * factor,
        parameters=np.stack(ordinary, axis=1) + np.stack(experts, axis=1),
        tflops_per_gpu=table.model_flops / step / table.gpus / 1e12,
        noise=_draw(seed, 74, 0.003, 0.012),
    )


def layout_stretch(layout: Layout, seed: int) -> Floats:
    """Factor in [0.75, 1.25] on the work of each layout: one effect for each value it uses."""
    effect = np.zeros(len(layout.tp))
    for k, (name, width) in enumerate(_AXIS_EFFECTS.items()):
        effect += width * _signed(seed, 100 + k, getattr(layout, name))
    for k, (first, second, width) in enumerate(_PAIR_EFFECTS):
        effect += width * _signed(seed, 200 + k, getattr(layout, first), getattr(layout, second))
    every = [getattr(layout, name) for name in (*_AXIS_EFFECTS, "zero", "recompute_full")]
    effect += _RESIDUAL * _signed(seed, 300, *every)
    return np.clip(1.0 + effect, 1.0 - EFFICIENCY_SPREAD, 1.0 + EFFICIENCY_SPREAD)


def memory_factor(layout: Layout, seed: int) -> Floats:
    """True memory over predicted, in [0.9, 1.1]: one factor for the machine, one per layout."""
    common = _draw(seed, 50, -0.06, 0.06)
    own = 0.02 * _signed(seed, 51, layout.tp, layout.pp) + 0.015 * _signed(seed, 52, layout.vpp)
    return 1.0 + common + own + 0.005 * _signed(seed, 53, layout.micro_batch, layout.cp)


def _drawn_constants(seed: int) -> Floats:
    """Log multipliers of all constants that time depends on; memory's stay."""
    shift = np.zeros(len(NAMES))
    for k, name in enumerate(NAMES):
        if name in ("states", "activations", "temporary", "reserve"):
            continue
        width = MATMUL_SPREAD if name == "matmul" else EFFICIENCY_SPREAD
        shift[k] = np.log1p(_draw(seed, k, -width, width))
    return shift


def _column(columns: Mapping[str, ArrayLike], name: str, rows: int) -> Floats:
    values = columns.get(name)
    if values is None:
        return np.zeros(rows)
    return np.array([float(value or 0) for value in np.asarray(values).tolist()])


def _draw(seed: int, stream: int, low: float, high: float) -> float:
    """One uniform number of the machine, by seed and stream."""
    return low + (high - low) * float(0.5 + 0.5 * _signed(seed, 1000 + stream, np.zeros(1))[0])


def _signed(seed: int, stream: int, *keys: Floats) -> Floats:
    """Numbers in [-1, 1) that depend on seed, stream and the keys of each row only.

    SplitMix64 (Steele, Lea, Flood 2014) over the keys in thousandths, so that equal layouts
    get equal numbers wherever and in whatever order they are computed.
    """
    state = np.full(len(keys[0]), np.uint64(seed * 0x9E3779B9 + stream + 1), dtype=np.uint64)
    for key in keys:
        state = _mix(state ^ np.round(np.asarray(key) * 1000.0).astype(np.int64).astype(np.uint64))
    return np.asarray((_mix(state) >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1.0)


def _mix(state: Any) -> Any:
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
