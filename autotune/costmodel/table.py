"""Predictions for a whole legal set at once: prepared once, predicted again for any constants.

``CostTable`` holds what does not depend on fitted constants; ``predict`` is a few matrix
products and maxima over n rows, cheap enough for thousands of calls.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from autotune.costmodel.constants import MEMORY_CONSTANTS, NAMES, TIME_CONSTANTS, Constants
from autotune.costmodel.layout import Layout
from autotune.costmodel.memory import MEMORY_PARTS, MemoryParts
from autotune.costmodel.timing import DEVICE_WORK, STEP_OVERHEAD_S, TimeParts

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
TIME_PARTS = (
    "compute", "exposed_tp", "exposed_dp", "pipeline_bubble", "p2p", "recompute", "optimizer",
    "host_overhead",
)  # fmt: skip
_BUSY = len(DEVICE_WORK)
_COMPUTE = 3
_ACTIVATIONS = MEMORY_PARTS.index("activations")
_HOST_SHARPNESS = 10.0
_RETRY_SLOWDOWN = 1.8
_MOST_SHOWN = 0.92


@dataclass(frozen=True)
class Costs:
    """Predictions of n rows; times in s, memory in GiB, sigmas in log space.

    ``memory_gib`` is what the fullest GPU needs, reserve included; ``allocated_gib`` what the
    framework's own log would show (its allocator's peak on the rank that prints).
    """

    step_time_s: Floats
    memory_gib: Floats
    allocated_gib: Floats
    time_parts: dict[str, Floats]
    memory_parts: dict[str, Floats]
    time_sigma: Floats
    memory_sigma: Floats
    tokens_per_s_per_gpu: Floats
    mfu: Floats

    def band(self, z: float = 1.96) -> tuple[Floats, Floats]:
        """(low, high) step time in s; 95% unless another ``z`` is asked for."""
        factor = np.exp(z * self.time_sigma)
        return self.step_time_s / factor, self.step_time_s * factor

    def probability_fits(self, capacity_gib: float) -> Floats:
        """Chance in [0, 1] that a row fits into ``capacity_gib`` of device memory."""
        from scipy.special import ndtr

        margin = np.log(capacity_gib) - np.log(self.memory_gib)
        return np.asarray(ndtr(margin / self.memory_sigma))


@dataclass(frozen=True)
class CostTable:
    """Prepared physics of n rows: seconds (n, work) and GiB (n, stage, part), nominal.

    ``steady``, ``recompute`` and ``bubble`` have one column per DEVICE_WORK; ``host`` is the
    launch time of the whole step in s; ``window`` the share of ``steady`` behind which
    data-parallel traffic can hide.
    """

    steady: Floats
    recompute: Floats
    bubble: Floats
    host: Floats
    stall: Floats
    p2p: Floats
    data_parallel: Floats
    gather: Floats
    data_parallel_latency: Floats
    data_parallel_each: Floats
    optimizer: Floats
    window: Floats
    window_each: Floats
    memory: Floats
    model_flops: Floats
    tokens: Floats
    gpus: Floats
    peak_flops: float
    capacity_gib: float
    reported: int | None
    retries_when_full: bool
    constants: Constants

    def __len__(self) -> int:
        return len(self.host)

    def take(self, rows: npt.ArrayLike) -> CostTable:
        """The same table for a subset of rows, in the order given."""
        index = np.asarray(rows, dtype=np.intp)
        picked = {
            item.name: getattr(self, item.name)[index]
            for item in fields(self)
            if isinstance(getattr(self, item.name), np.ndarray)
        }
        return replace(self, **picked)

    def time_by_part(self, mean: Floats) -> dict[str, Floats]:
        """Seconds by TIME_PARTS at the given log multipliers (all of NAMES)."""
        factor = dict(zip(NAMES, np.exp(mean), strict=True))
        device = np.array([factor[name] for name in DEVICE_WORK])
        compute = self.steady[:, :_COMPUTE] @ device[:_COMPUTE]
        exposed_tp = self.steady[:, _COMPUTE:] @ device[_COMPUTE:]
        recompute = self.recompute @ device
        busy = compute + exposed_tp + recompute
        host = self.host * factor["host"] + self.stall * factor["interference"]
        occupied = _larger(busy, host)
        bubble = (self.bubble @ device) * occupied / busy
        once = self.data_parallel * factor["data_parallel"]
        once_exposed = _hidden_behind(once, self.window * occupied)
        each = self.data_parallel_each * factor["data_parallel"]
        each_exposed = _hidden_behind(each, self.window_each * occupied)
        gather = self.gather * factor["data_parallel"]
        delay = self.data_parallel_latency * factor["data_parallel_latency"]
        return {
            "compute": compute,
            "exposed_tp": exposed_tp,
            "exposed_dp": once_exposed + each_exposed + delay + gather,
            "pipeline_bubble": bubble,
            "p2p": self.p2p * factor["pipeline"],
            "recompute": recompute,
            "optimizer": self.optimizer * factor["optimizer"],
            "host_overhead": occupied
            - busy
            + STEP_OVERHEAD_S * factor["step_overhead"]
            + (occupied + bubble) * self._pressure(mean),
        }

    def step_time(self, mean: Floats) -> Floats:
        """Step time in s at the given log multipliers."""
        parts = self.time_by_part(mean)
        return np.asarray(sum(parts.values()))

    def _pressure(self, mean: Floats) -> Floats:
        """Slow-down of a row that barely fits: the allocator empties its cache and retries."""
        if not self.retries_when_full:
            return np.zeros(len(self))
        need = self.device_memory(mean) / self.capacity_gib
        return np.asarray(expit((need - 0.94) / 0.01) * _RETRY_SLOWDOWN)

    def memory_by_part(self, mean: Floats) -> Floats:
        """GiB (n, stage, part) at the given log multipliers."""
        factor = dict(zip(NAMES, np.exp(mean), strict=True))
        scale = np.array(
            [factor["states"]] * 3
            + [factor["activations"], factor["temporary"], factor["temporary"], factor["reserve"]]
        )
        return np.asarray(self.memory * scale)

    def allocated(self, mean: Floats) -> Floats:
        """GiB that the framework's log would show: without the reserve, on the printing rank.

        A run that gets far enough to print cannot show more than the card holds.
        """
        totals = self.memory_by_part(mean)[:, :, :-1].sum(axis=2)
        shown = totals.max(axis=1) if self.reported is None else totals[:, self.reported]
        limit = _MOST_SHOWN * self.capacity_gib
        return np.asarray(shown / (1.0 + (shown / limit) ** 12) ** (1.0 / 12))

    def device_memory(self, mean: Floats) -> Floats:
        """GiB that the fullest GPU needs, reserve included."""
        return np.asarray(self.memory_by_part(mean).sum(axis=2).max(axis=1))

    def time_sensitivity(self, mean: Floats) -> Floats:
        """d log(step time) / d log multiplier, (n, len(TIME_CONSTANTS)), by differences."""
        base = np.log(self.step_time(mean))
        columns = []
        for k in range(len(TIME_CONSTANTS)):
            moved = mean.copy()
            moved[k] += 1e-3
            columns.append((np.log(self.step_time(moved)) - base) / 1e-3)
        return np.stack(columns, axis=1)

    def memory_sensitivity(self, mean: Floats, allocated: bool) -> Floats:
        """d log(memory) / d log multiplier, (n, len(MEMORY_CONSTANTS)), by differences."""
        measure = self.allocated if allocated else self.device_memory
        base = np.log(measure(mean))
        columns = []
        for k in range(len(MEMORY_CONSTANTS)):
            moved = mean.copy()
            moved[len(TIME_CONSTANTS) + k] += 1e-3
            columns.append((np.log(measure(moved)) - base) / 1e-3)
        return np.stack(columns, axis=1)

    def predict(
        self, constants: Constants | None = None, covariance: Floats | None = None
    ) -> Costs:
        """All predictions with bands; without constants the table's own prior is used.

        ``covariance`` of all constants replaces the prior widths (a calibrator's posterior).
        """
        known = constants or self.constants
        mean = known.mean
        spread = np.diag(known.sigma**2) if covariance is None else covariance
        parts = self.time_by_part(mean)
        step = np.asarray(sum(parts.values()))
        memory = self.memory_by_part(mean)
        totals = memory.sum(axis=2)
        fullest = totals.argmax(axis=1)
        rows = np.arange(len(self))
        k = len(TIME_CONSTANTS)
        time_var = _variance(self.time_sensitivity(mean), spread[:k, :k])
        memory_var = _variance(self.memory_sensitivity(mean, False), spread[k:, k:])
        return Costs(
            step_time_s=step,
            memory_gib=totals[rows, fullest],
            allocated_gib=self.allocated(mean),
            time_parts=parts,
            memory_parts={name: memory[rows, fullest, p] for p, name in enumerate(MEMORY_PARTS)},
            time_sigma=np.sqrt(time_var + known.time_sigma**2),
            memory_sigma=np.sqrt(memory_var + known.memory_sigma**2),
            tokens_per_s_per_gpu=self.tokens / step / self.gpus,
            mfu=self.model_flops / step / self.gpus / self.peak_flops,
        )


def _variance(sensitivity: Floats, covariance: Floats) -> Floats:
    return np.asarray(np.einsum("ni,ij,nj->n", sensitivity, covariance, sensitivity))


def _larger(first: Floats, second: Floats) -> Floats:
    """A slightly rounded maximum, so that every constant keeps a slope."""
    top = np.maximum(first, second)
    low = np.minimum(first, second) / top
    return np.asarray(top * (1.0 + low**_HOST_SHARPNESS) ** (1.0 / _HOST_SHARPNESS))


def _hidden_behind(work: Floats, window: Floats) -> Floats:
    """What of ``work`` is left over once ``window`` seconds of it ran behind something else.

    A soft maximum: traffic as long as its window is never hidden quite whole.
    """
    return np.asarray(0.5 * (work - window + np.sqrt((work - window) ** 2 + 0.04 * work * window)))


def build_table(
    layout: Layout, time: TimeParts, memory: MemoryParts, constants: Constants,
    peak_flops: float, capacity_gib: float,
) -> CostTable:  # fmt: skip
    """Compose layers into pipelines: the slowest stage sets the pace, the rest is bubble.

    Step of a pipeline: sum of all stages once, plus (m - 1) times the slowest; with v virtual
    stages the fill shrinks by v (Narayanan et al. 2021, arXiv:2104.04473, section 2.2).
    """
    weight = np.exp(constants.mean[: len(DEVICE_WORK)])
    each = time.layer + time.recompute
    cuts = layout.stages
    head = time.head.copy()
    head[:, DEVICE_WORK.index("memory_bound")] *= 1.0 - cuts.loss_apart
    cost, head_cost = each @ weight, head @ weight
    single = layout.pp == 1
    loads = np.stack(
        [
            cuts.first * cost + np.where(single, head_cost, 0.0),
            cuts.middle * cost,
            cuts.last * cost + head_cost,
        ]
    )
    slowest = loads.argmax(axis=0)
    layers = np.stack([cuts.first, cuts.middle, cuts.last])[slowest, np.arange(len(cost))]
    with_head = (slowest == 2) | single
    m = layout.microbatches
    here = layers[:, None] * time.layer + with_head[:, None] * head
    fill = cuts.total * each + time.head - here - layers[:, None] * time.recompute
    squeeze = (layout.bubble_scale / layout.vpp)[:, None]
    steady = m[:, None] * here
    window = layout.overlap_dp * 0.6 / m
    recompute = (m * layers)[:, None] * time.recompute
    host = m * time.host * (layers + 1.0)
    waits = host * np.exp(constants["host"])
    waits = waits + m * layers * time.stall * np.exp(constants["interference"])
    lag = ((steady + recompute) @ weight / waits) ** 4
    late = lag / (1.0 + lag) * (1.0 - 0.7 * np.minimum(layout.pp / m, 1.0))
    by_stage = memory.by_stage.copy()
    by_stage[:, :, _ACTIVATIONS] += memory.late_freed * late[:, None]
    return CostTable(
        steady=steady,
        recompute=recompute,
        bubble=np.maximum(fill, 0.0) * squeeze,
        host=host,
        stall=m * time.stall * layers,
        p2p=time.p2p * (m + layout.pp - 1.0) * layout.vpp,
        data_parallel=time.data_parallel,
        gather=time.gather,
        data_parallel_latency=time.data_parallel_latency,
        data_parallel_each=time.data_parallel_each * m,
        optimizer=time.optimizer,
        window=window,
        window_each=layout.overlap_dp,
        memory=by_stage,
        model_flops=time.model_flops,
        tokens=m * layout.micro_batch * layout.dp * layout.seq,
        gpus=layout.world,
        peak_flops=peak_flops,
        capacity_gib=capacity_gib,
        reported=memory.reported,
        retries_when_full=memory.retries_when_full,
        constants=constants,
    )
