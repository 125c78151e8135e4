"""The cost model as the search sees it: straight lines around its best constants so far.

Log step time and log memory are expanded to first order in the constants, so that learning the
constants is linear algebra with honest covariances. Where trials have moved the constants, the
expansion is made anew around the new place; the prior on the constants stays where it was, but
for the cluster's pace, which trials tell better than any prior.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.costmodel import Calibrator, CostModel, CostTable, Observation
from autotune.costmodel.constants import PACE, TIME_CONSTANTS
from autotune.search.memory import MemoryPrior
from autotune.search.proposal import LegalRows

FloatArray = NDArray[np.float64]
_TIMES = len(TIME_CONSTANTS)
STATES = 3
"""The first parts of memory: weights, gradients, optimizer."""
SAME_STATES, SAME_MEMORY = 0.55, 0.35
"""Shares of the memory error's variance that rows have in common when they shard alike, and
besides when the cost model cannot tell them apart."""


@dataclass(frozen=True)
class CostPrior:
    """What the cost model expects of every row before any trial of this study.

    ``log_time`` (rows,) of seconds per step, ``time_basis`` (rows, k) its change per unit of
    each constant, whose prior deviations are ``time_widths``; ``time_sigma`` the deviation of a
    single config. ``memory`` likewise. ``centre`` is where the expansion was made.
    """

    log_time: FloatArray
    time_basis: FloatArray
    time_widths: FloatArray
    time_sigma: float
    memory: MemoryPrior
    capacity_gib: float
    table: CostTable

    @classmethod
    def around(cls, table: CostTable, centre: FloatArray | None = None) -> CostPrior:
        """Expands a prepared table around ``centre`` (its own constants by default)."""
        constants = table.constants
        mean = constants.mean if centre is None else centre
        moved = mean - constants.mean
        moved[PACE] = 0.0
        times, memories = moved[:_TIMES], moved[_TIMES:]
        time, basis = table.step_time_and_slopes(mean)
        capacity = np.log(table.capacity_gib)
        need, needs = table.memory_and_slopes(mean, allocated=False)
        shown, shows = table.memory_and_slopes(mean, allocated=True)
        _, first, kind = np.unique(table.row, return_index=True, return_inverse=True)
        return cls(
            log_time=np.log(time) - basis @ times,
            time_basis=basis,
            time_widths=constants.sigma[:_TIMES],
            time_sigma=constants.time_sigma,
            memory=MemoryPrior(
                mean=np.log(need) - capacity - needs @ memories,
                basis=needs,
                shown=np.log(shown) - capacity - shows @ memories,
                shown_basis=shows,
                widths=constants.sigma[_TIMES:],
                sigma=constants.memory_sigma,
                kin=_kin(table),
                kin_shares=(SAME_STATES, SAME_MEMORY),
                alike=(first, kind),
            ),
            capacity_gib=table.capacity_gib,
            table=table,
        )

    def recentred(self, observations: list[Observation]) -> CostPrior:
        """The same prior expanded around the constants that best explain the observations."""
        calibration = Calibrator(self.table).fit(observations)
        return CostPrior.around(self.table, calibration.constants.mean)


def _kin(table: CostTable) -> NDArray[np.int64]:
    """(rows, 2): rows that hold the same model states on a GPU, and rows of the same memory."""
    memory = np.round(table.physics.memory, 6)
    families = [
        np.ravel(np.unique(parts.reshape(len(memory), -1), axis=0, return_inverse=True)[1])
        for parts in (memory[:, :, :STATES], memory)
    ]
    return np.column_stack(families).astype(np.int64)[table.row]


def prepare_table(model: CostModel, legal: LegalRows) -> CostTable:
    """The cost model's table over all rows of a legal set, derived sizes included."""
    return model.prepare(legal_columns(legal))


def legal_columns(legal: LegalRows) -> Mapping[str, Any]:
    """Columns by canonical name: a legal set's own, with derived sizes, where it offers them."""
    own = getattr(legal, "columns", None)
    if callable(own):
        columns: Mapping[str, Any] = own()
        return columns
    return {name: legal.column(name) for name in legal.names}
