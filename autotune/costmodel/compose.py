"""From the cost of one layer to the cost of a step: pipelines, overlap windows, late frees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autotune.costmodel.constants import MEMORY_CONSTANTS, Constants
from autotune.costmodel.layout import Layout
from autotune.costmodel.memory import MEMORY_PARTS, MemoryParts
from autotune.costmodel.physics import PART_CONSTANT, Physics
from autotune.costmodel.timing import DEVICE_WORK, TimeParts

Floats = npt.NDArray[np.float64]
_BACKWARD_SHARE = 0.6
WAIT_THAT_EMPTIES_S = 0.1
"""Waits of this length let the device catch up with its host."""
LONG_RING = 24.0
"""Tensor-parallel rings over more than two nodes stall their host at every hand-over."""
_ACTIVATIONS = MEMORY_PARTS.index("activations")


def compose(
    layout: Layout, time: TimeParts, memory: MemoryParts, constants: Constants,
    peak_flops: Floats, capacity_gib: float,
) -> Physics:  # fmt: skip
    """Compose layers into pipelines: the slowest stage sets the pace, the rest is bubble.

    Step of a pipeline: sum of all stages once, plus (m - 1) times the slowest; with v virtual
    stages the fill shrinks by v (Narayanan et al. 2021, arXiv:2104.04473, section 2.2).
    """
    weight = np.exp(constants.mean[: len(DEVICE_WORK)])
    each = time.layer + time.recompute
    cuts = layout.stages
    cost, head_cost = each @ weight, time.head @ weight
    single = layout.pp == 1
    depth = np.stack([cuts.first, cuts.middle, cuts.last])
    heads = np.stack([single, np.zeros_like(single), np.ones_like(single)])
    loads = depth * cost + heads * head_cost
    waits = (depth + 1.0) * time.host * np.exp(constants["host"])
    waits = waits + depth * time.stall * np.exp(constants["interference"])
    slowest = np.maximum(loads, waits * (depth > 0)).argmax(axis=0)
    layers = depth[slowest, np.arange(len(cost))]
    with_head = heads[slowest, np.arange(len(cost))]
    m = layout.microbatches
    here = layers[:, None] * time.layer + with_head[:, None] * time.head
    fill = cuts.total * each + time.head - here - layers[:, None] * time.recompute
    squeeze = (layout.bubble_scale / layout.vpp)[:, None]
    steady = m[:, None] * here
    window = layout.overlap_dp * _BACKWARD_SHARE / m
    recompute = (m * layers)[:, None] * time.recompute
    host = m * time.host * (layers + 1.0)
    stall = m * time.stall * layers
    launching = host * np.exp(constants["host"]) + stall * np.exp(constants["interference"])
    late = _late_share(layout, (steady + recompute) @ weight / launching, time.hand_over_wait)
    by_stage = memory.by_stage.copy()
    by_stage[:, :, _ACTIVATIONS] += memory.late_freed * late[:, None]
    return Physics(
        steady=steady,
        recompute=recompute,
        bubble=np.maximum(fill, 0.0) * squeeze,
        host=host,
        stall=stall,
        p2p=time.p2p * (m + layout.pp - 1.0) * layout.vpp
        + time.hand_over_wait * (m + 0.5 * (layout.pp - 1.0)),
        data_parallel=time.data_parallel,
        gather=time.gather,
        data_parallel_latency=time.data_parallel_latency,
        data_parallel_each=time.data_parallel_each * m,
        optimizer=time.optimizer,
        window=window,
        window_each=layout.overlap_dp,
        memory=by_stage,
        memory_by_constant=_sum_by_constant(by_stage),
        model_flops=time.model_flops,
        tokens=m * layout.micro_batch * layout.dp * layout.seq,
        gpus=layout.world,
        peak_flops=peak_flops,
        capacity_gib=capacity_gib,
        reported=memory.reported,
        retries_when_full=memory.retries_when_full,
    )


def _late_share(layout: Layout, lag: Floats, wait: Floats) -> Floats:
    """Share of side-stream memory that is not back when it is wanted again, in [0, 1].

    Launches run ahead of the device where they are faster (``lag`` is busy time over launch
    time), and in a deep pipeline's warm-up, where the device waits for its neighbours; a host
    that waits ``wait`` seconds at each hand-over is never ahead. One micro batch alone gives
    little time to get ahead.
    """
    busy = lag**4 / (1.0 + lag**4)
    repeats = np.clip((layout.microbatches - 1.0) / 2.0, 0.1, 1.0)
    alone = 0.78 * np.maximum(repeats, 0.6 * lag**4 / (4.0**4 + lag**4))
    warm_up = np.clip(0.3 * np.log2(layout.pp), 0.0, 0.88) * (layout.pp > 2)
    short_rings = 1.0 / (1.0 + (layout.tp / LONG_RING) ** 8)
    share = np.where(layout.pp > 1, np.maximum(0.9 * busy, warm_up) * short_rings, alone)
    return np.asarray(share * np.exp(-wait / WAIT_THAT_EMPTIES_S))


def _sum_by_constant(by_stage: Floats) -> Floats:
    """GiB (n, stage, memory constant) from GiB (n, stage, part)."""
    out = np.zeros((*by_stage.shape[:2], len(MEMORY_CONSTANTS)))
    for part, constant in enumerate(PART_CONSTANT):
        out[:, :, constant] += by_stage[:, :, part]
    return out
