"""The cost of distinct layouts for any constants: a few matrix products and maxima.

Nothing here knows parameters or frameworks: columns of seconds and GiB come in, prepared once,
and log multipliers turn them into step times and memory, with slopes for those who fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.costmodel.constants import MEMORY_CONSTANTS, PACE, TIME_CONSTANTS
from autotune.costmodel.timing import DEVICE_WORK, STEP_OVERHEAD_S

Floats = npt.NDArray[np.float64]
TIME_PARTS = (
    "compute", "exposed_tp", "exposed_dp", "pipeline_bubble", "p2p", "recompute", "optimizer",
    "host_overhead",
)  # fmt: skip
_COMPUTE = 3
_SHARPNESS = 10.0
_RETRY_SLOWDOWN = 0.3
_MOST_SHOWN = 0.92


@dataclass(frozen=True)
class Step:
    """One evaluation of the time model: parts in s, and what their slopes need."""

    parts: dict[str, Floats]
    device: Floats
    bubble_stretch: Floats
    by_device: Floats
    by_host: Floats
    launch: Floats
    wait: Floats
    traffic: Floats
    start: Floats
    overhead: float
    slow: Floats

    @property
    def total(self) -> Floats:
        return np.asarray(sum(self.parts.values()))


@dataclass(frozen=True)
class Physics:
    """What n distinct layouts cost: seconds (n, work) and GiB (n, stage, part), nominal.

    ``steady``, ``recompute`` and ``bubble`` have one column per DEVICE_WORK; ``host`` and
    ``stall`` are the whole step's launches and waits in s; ``window`` is the share of a step
    behind which the gradient reduction hides, ``window_each`` that of per-micro-batch traffic.
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
    memory_by_constant: Floats
    model_flops: Floats
    tokens: Floats
    gpus: Floats
    peak_flops: Floats
    capacity_gib: float
    reported: int | None
    retries_when_full: bool

    def __len__(self) -> int:
        return len(self.host)

    def take(self, rows: npt.ArrayLike) -> Physics:
        """The same table for a subset of rows, in the order given."""
        index = np.asarray(rows, dtype=np.intp)
        picked: dict[str, Any] = {name: getattr(self, name)[index] for name in _ARRAYS}
        return replace(self, **picked)

    @staticmethod
    def joined(tables: Sequence[Physics]) -> Physics:
        """Tables of several jobs on one kind of GPU under one framework, as one."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(t, name) for t in tables]) for name in _ARRAYS
        }
        return replace(tables[0], **columns)

    def shifted(self, by: Floats) -> Physics:
        """The same layouts where every log multiplier (all of NAMES) stands ``by`` higher.

        Not shifted is the overhead of a step, which is no layout's own.
        """
        factor = _time_factors(by)
        device = np.array([factor[name] for name in DEVICE_WORK])
        memory = np.exp(by[len(TIME_CONSTANTS) :])
        return replace(
            self,
            steady=self.steady * device,
            recompute=self.recompute * device,
            bubble=self.bubble * device,
            host=self.host * factor["host"],
            stall=self.stall * factor["interference"],
            p2p=self.p2p * factor["pipeline"],
            data_parallel=self.data_parallel * factor["data_parallel"],
            data_parallel_each=self.data_parallel_each * factor["data_parallel"],
            gather=self.gather * factor["data_parallel"],
            data_parallel_latency=self.data_parallel_latency * factor["data_parallel_latency"],
            optimizer=self.optimizer * factor["optimizer"],
            memory=self.memory * memory[PART_CONSTANT],
            memory_by_constant=self.memory_by_constant * memory,
        )

    def evaluate(self, mean: Floats) -> Step:
        factor = _time_factors(mean)
        device = np.array([factor[name] for name in DEVICE_WORK])
        compute = self.steady[:, :_COMPUTE] @ device[:_COMPUTE]
        exposed_tp = self.steady[:, _COMPUTE:] @ device[_COMPUTE:]
        extra = self.recompute @ device
        busy = compute + exposed_tp + extra
        launch, wait = self.host * factor["host"], self.stall * factor["interference"]
        occupied, by_device, by_host = _larger(busy, launch + wait)
        stretch = occupied / busy
        reduction = self.data_parallel * factor["data_parallel"]
        each = self.data_parallel_each * factor["data_parallel"]
        gather = self.gather * factor["data_parallel"]
        start = self.data_parallel_latency * factor["data_parallel_latency"]
        exposed, exposed_slope = _left_over(reduction, self.window * occupied)
        exposed_each, each_slope = _left_over(each, self.window_each * occupied)
        bubble = (self.bubble @ device) * stretch
        pressure = self._pressure(mean)
        overhead = float(STEP_OVERHEAD_S * factor["step_overhead"])
        parts = {
            "compute": compute,
            "exposed_tp": exposed_tp,
            "exposed_dp": exposed + exposed_each + gather + start,
            "pipeline_bubble": bubble,
            "p2p": self.p2p * factor["pipeline"],
            "recompute": extra,
            "optimizer": self.optimizer * factor["optimizer"],
            "host_overhead": occupied - busy + overhead + (occupied + bubble) * pressure,
        }
        traffic = reduction * exposed_slope + each * each_slope + gather
        return Step(
            parts, device, stretch, by_device, by_host, launch, wait, traffic, start, overhead,
            1.0 + pressure,
        )  # fmt: skip

    def slopes(self, step: Step) -> Floats:
        """d(step time in s) / d(log multiplier), (n, len(TIME_CONSTANTS))."""
        out = np.zeros((len(self), len(TIME_CONSTANTS)))
        stage = (self.steady + self.recompute) * step.by_device[:, None]
        stage += self.bubble * step.bubble_stretch[:, None]
        out[:, : len(DEVICE_WORK)] = stage * step.device * step.slow[:, None]
        for name, seconds in (
            ("host", step.launch * step.by_host * step.slow),
            ("interference", step.wait * step.by_host * step.slow),
            ("data_parallel", step.traffic),
            ("data_parallel_latency", step.start),
            ("pipeline", step.parts["p2p"]),
            ("optimizer", step.parts["optimizer"]),
            ("step_overhead", np.full(len(self), step.overhead)),
            ("pace", step.total),
        ):
            out[:, TIME_CONSTANTS.index(name)] = seconds
        return out

    def _pressure(self, mean: Floats) -> Floats:
        """Slow-down of a row that barely fits: the allocator empties its cache and retries."""
        if not self.retries_when_full:
            return np.zeros(len(self))
        need = self.device_memory(mean) / self.capacity_gib
        logistic = 0.5 + 0.5 * np.tanh(0.5 * (need - 0.955) / 0.01)
        return np.asarray(logistic * _RETRY_SLOWDOWN)

    def memory_by_part(self, mean: Floats) -> Floats:
        """GiB (n, stage, part) at the given log multipliers."""
        return np.asarray(self.memory * np.exp(mean[len(TIME_CONSTANTS) :])[PART_CONSTANT])

    def stage_totals(self, mean: Floats, reserve: bool) -> tuple[Floats, Floats]:
        """(GiB (n, stage), factors of the memory constants); the reserve counted or not."""
        factors = np.exp(mean[len(TIME_CONSTANTS) :])
        if not reserve:
            factors[MEMORY_CONSTANTS.index("reserve")] = 0.0
        return self.memory_by_constant @ factors, factors

    def _shown(self, totals: Floats) -> Floats:
        shown = totals.max(axis=1) if self.reported is None else totals[:, self.reported]
        limit = _MOST_SHOWN * self.capacity_gib
        return np.asarray(shown / (1.0 + (shown / limit) ** 12) ** (1.0 / 12))

    def allocated(self, mean: Floats) -> Floats:
        """GiB that the framework's log would show: without the reserve, on the printing rank.

        A run that gets far enough to print cannot show more than the card holds.
        """
        return self._shown(self.stage_totals(mean, False)[0])

    def device_memory(self, mean: Floats) -> Floats:
        """GiB that the fullest GPU needs, reserve included."""
        return np.asarray(self.stage_totals(mean, True)[0].max(axis=1))

    def memory_and_slopes(self, mean: Floats, allocated: bool) -> tuple[Floats, Floats]:
        """(GiB, d log(memory) / d log multiplier (n, len(MEMORY_CONSTANTS))).

        ``allocated`` chooses what the log shows instead of what the device holds.
        """
        totals, factors = self.stage_totals(mean, not allocated)
        stage = totals.argmax(axis=1)
        if allocated and self.reported is not None:
            stage = np.full(len(self), self.reported)
        rows = np.arange(len(self))
        need = totals[rows, stage]
        slopes = self.memory_by_constant[rows, stage] * factors / need[:, None]
        return (self._shown(totals) if allocated else need), slopes


_SCALARS = ("capacity_gib", "reported", "retries_when_full")
_ARRAYS = tuple(item.name for item in fields(Physics) if item.name not in _SCALARS)
PART_CONSTANT = [
    MEMORY_CONSTANTS.index(name)
    for name in ("states", "states", "states", "activations", "temporary", "temporary", "reserve")
]


def _time_factors(log: Floats) -> dict[str, float]:
    """What multiplies each kind of time; a step's pace multiplies them all."""
    return dict(zip(TIME_CONSTANTS, np.exp(log[: len(TIME_CONSTANTS)] + log[PACE]), strict=True))


def _larger(first: Floats, second: Floats) -> tuple[Floats, Floats, Floats]:
    """A slightly rounded maximum, and its slopes to both arguments."""
    top = np.maximum(first, second)
    ratio = np.minimum(first, second) / top
    square = ratio * ratio
    low = square * (square * square) ** 2
    grown = 1.0 + low
    value = top * grown ** (1.0 / _SHARPNESS)
    top_slope = grown ** (1.0 / _SHARPNESS - 1.0)
    low_slope = np.where(ratio > 0, low / np.maximum(ratio, 1e-30), 0.0) * top_slope
    ahead = first >= second
    return value, np.where(ahead, top_slope, low_slope), np.where(ahead, low_slope, top_slope)


def _left_over(work: Floats, window: Floats) -> tuple[Floats, Floats]:
    """What of ``work`` remains once ``window`` seconds hide it, and the slope to ``work``.

    A soft maximum: traffic as long as its window is never hidden quite whole.
    """
    gap = work - window
    root = np.sqrt(gap**2 + 0.04 * work * window) + 1e-12
    return 0.5 * (gap + root), 0.5 * (1.0 + (gap + 0.02 * window) / root)
