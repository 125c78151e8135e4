"""Predictions for a whole legal set at once: prepared once, predicted again for any constants.

Many parameters of a space change neither memory nor speed, so that rows share their physics:
``CostTable`` computes each distinct layout once and hands the answer to all rows that have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from autotune.costmodel.constants import TIME_CONSTANTS, Constants
from autotune.costmodel.memory import MEMORY_PARTS
from autotune.costmodel.physics import PART_CONSTANT, TIME_PARTS, Physics

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

__all__ = ["MEMORY_PARTS", "TIME_PARTS", "CostTable", "Costs"]


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

    def memory_band(self, z: float = 1.96) -> tuple[Floats, Floats]:
        """(low, high) memory in GiB; 95% unless another ``z`` is asked for."""
        factor = np.exp(z * self.memory_sigma)
        return self.memory_gib / factor, self.memory_gib * factor

    def probability_fits(self, capacity_gib: float) -> Floats:
        """Chance in [0, 1] that a row fits into ``capacity_gib`` of device memory."""
        margin = np.log(capacity_gib) - np.log(self.memory_gib)
        from scipy.special import ndtr

        return np.asarray(ndtr(margin / self.memory_sigma))


@dataclass(frozen=True)
class CostTable:
    """n rows over distinct physics: ``row[i]`` says which layout row i has.

    ``constants`` is the prior that predictions use when they are given no other.
    """

    physics: Physics
    row: Rows
    constants: Constants

    def __len__(self) -> int:
        return len(self.row)

    @property
    def capacity_gib(self) -> float:
        """Device memory of one GPU, GiB."""
        return self.physics.capacity_gib

    @property
    def tokens(self) -> Floats:
        """Tokens of one optimizer step, whole cluster (n,)."""
        return self.physics.tokens[self.row]

    @property
    def gpus(self) -> Floats:
        """GPUs that each row uses (n,)."""
        return self.physics.gpus[self.row]

    @property
    def model_flops(self) -> Floats:
        """Model FLOPs of one optimizer step, whole cluster, recomputation not counted (n,)."""
        return self.physics.model_flops[self.row]

    def take(self, rows: npt.ArrayLike) -> CostTable:
        """The same table for a subset of rows, in the order given."""
        distinct, row = np.unique(self.row[np.asarray(rows, dtype=np.intp)], return_inverse=True)
        return replace(self, physics=self.physics.take(distinct), row=row)

    @staticmethod
    def joined(tables: Sequence[CostTable]) -> CostTable:
        """Tables of several jobs on one kind of GPU under one framework, as one."""
        sizes = np.cumsum([0, *(len(table.physics) for table in tables)])
        row = np.concatenate([t.row + start for t, start in zip(tables, sizes, strict=False)])
        physics = Physics.joined([table.physics for table in tables])
        return CostTable(physics, row, tables[0].constants)

    def time_by_part(self, mean: Floats) -> dict[str, Floats]:
        """Seconds by TIME_PARTS at the given log multipliers (all of NAMES)."""
        parts = self.physics.evaluate(mean).parts
        return {name: values[self.row] for name, values in parts.items()}

    def step_time(self, mean: Floats) -> Floats:
        """Step time in s at the given log multipliers."""
        return self.physics.evaluate(mean).total[self.row]

    def step_time_and_slopes(self, mean: Floats) -> tuple[Floats, Floats]:
        """(s, d log(step time) / d log multiplier (n, len(TIME_CONSTANTS)))."""
        step = self.physics.evaluate(mean)
        slopes = self.physics.slopes(step) / step.total[:, None]
        return step.total[self.row], slopes[self.row]

    def memory_by_part(self, mean: Floats) -> Floats:
        """GiB (n, stage, part) of first, middle and last stage by MEMORY_PARTS."""
        return self.physics.memory_by_part(mean)[self.row]

    def allocated(self, mean: Floats) -> Floats:
        """GiB that the framework's log would show at the given log multipliers."""
        return self.physics.allocated(mean)[self.row]

    def device_memory(self, mean: Floats) -> Floats:
        """GiB that the fullest GPU needs, reserve included."""
        return self.physics.device_memory(mean)[self.row]

    def memory_and_slopes(self, mean: Floats, allocated: bool) -> tuple[Floats, Floats]:
        """(GiB, d log(memory) / d log multiplier (n, len(MEMORY_CONSTANTS))).

        ``allocated`` chooses what the log shows instead of what the device holds.
        """
        value, slopes = self.physics.memory_and_slopes(mean, allocated)
        return value[self.row], slopes[self.row]

    def predict(
        self, constants: Constants | None = None, covariance: Floats | None = None
    ) -> Costs:
        """All predictions with bands; without constants the table's own prior is used.

        ``covariance`` of all constants replaces the prior widths (a calibrator's posterior).
        """
        known = constants or self.constants
        mean, k, row, physics = known.mean, len(TIME_CONSTANTS), self.row, self.physics
        spread = np.diag(known.sigma**2) if covariance is None else covariance
        step = physics.evaluate(mean)
        total = step.total
        fullest = physics.stage_totals(mean, True)[0].argmax(axis=1)
        factors = np.exp(mean[k:])[PART_CONSTANT]
        memory = physics.memory[np.arange(len(physics)), fullest] * factors
        device, memory_slopes = physics.memory_and_slopes(mean, False)
        time_var = _variance(physics.slopes(step) / total[:, None], spread[:k, :k])
        memory_var = _variance(memory_slopes, spread[k:, k:])
        return Costs(
            step_time_s=total[row],
            memory_gib=device[row],
            allocated_gib=physics.allocated(mean)[row],
            time_parts={name: values[row] for name, values in step.parts.items()},
            memory_parts={name: memory[row, part] for part, name in enumerate(MEMORY_PARTS)},
            time_sigma=np.sqrt(time_var + known.time_sigma**2)[row],
            memory_sigma=np.sqrt(memory_var + known.memory_sigma**2)[row],
            tokens_per_s_per_gpu=(physics.tokens / total / physics.gpus)[row],
            mfu=(physics.model_flops / total / physics.gpus / physics.peak_flops)[row],
        )


def _variance(slopes: Floats, covariance: Floats) -> Floats:
    return np.asarray(((slopes @ covariance) * slopes).sum(axis=1))
