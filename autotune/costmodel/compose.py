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
QUEUED_LAYERS, QUEUED_WARM_UP = 31.0, 23.0
"""Layers that the device's launch queue (1,024 entries) holds: forward and backward, forward."""
KEPT_OF_PASS, LAGS_FROM = 0.78, 0.88
EDGE_LAUNCHES = 0.3
"""Embedding or head, loss and hand-overs of a stage, in launches of a layer."""
SEND_AHEAD = 0.5
"""Share of a stage's last layer that is launched before its hand-over, so that nothing queues."""
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
    behind = np.maximum(depth - SEND_AHEAD, 0.0)
    waits = (depth + EDGE_LAUNCHES) * time.host * np.exp(constants["host"])
    waits = waits + behind * time.stall * np.exp(constants["interference"])
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
    host = m * time.host * (layers + EDGE_LAUNCHES)
    stall = m * time.stall * behind[slowest, np.arange(len(cost))]
    launching = host * np.exp(constants["host"]) + stall * np.exp(constants["interference"])
    lag = (steady + recompute) @ weight / launching
    ahead = _layers_ahead(layout, memory, lag, time.hand_over_wait)
    by_stage = memory.by_stage.copy()
    by_stage[:, :, _ACTIVATIONS] += memory.late_each[:, None] * ahead
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


def _layers_ahead(layout: Layout, memory: MemoryParts, lag: Floats, wait: Floats) -> Floats:
    """Layers (n, stage) whose launches are ahead of the device when the activations peak.

    The host runs ahead where it is the faster (``lag`` is busy time over launch time): in one
    stage by 1 - 1 / lag of each pass, a little more with each micro batch (the backward pass
    lags first); in a pipeline that computes longer than it launches, by all it holds. In a
    pipeline's warm-up it is ahead anyhow, by all passes but the two that a hand-over waits for.
    The launch queue bounds it; a host that waits ``wait`` seconds at each hand-over, or at rings
    over several nodes, is never ahead.
    """
    m = layout.microbatches
    behind = m * np.maximum(1.0 - 1.0 / lag, 0.0) + 0.06 * (m - 1.0)
    whole = np.minimum(memory.layers * np.minimum(m, 2.0)[:, None], QUEUED_LAYERS)
    alone = KEPT_OF_PASS * np.minimum(behind, 1.0)[:, None] * whole
    busy = lag**8 / (LAGS_FROM**8 + lag**8)
    steady = np.minimum(memory.layers * memory.held, QUEUED_WARM_UP) * busy[:, None]
    warm_up = np.minimum(memory.layers * np.maximum(memory.held - 2.0, 0.0), QUEUED_WARM_UP)
    short_rings = 1.0 / (1.0 + (layout.tp / LONG_RING) ** 8)
    piped = np.maximum(steady, warm_up) * short_rings[:, None]
    ahead = np.where((layout.pp > 1)[:, None], piped, alone)
    return np.asarray(ahead * np.exp(-wait / WAIT_THAT_EMPTIES_S)[:, None])


def _sum_by_constant(by_stage: Floats) -> Floats:
    """GiB (n, stage, memory constant) from GiB (n, stage, part)."""
    out = np.zeros((*by_stage.shape[:2], len(MEMORY_CONSTANTS)))
    for part, constant in enumerate(PART_CONSTANT):
        out[:, :, constant] += by_stage[:, :, part]
    return out
