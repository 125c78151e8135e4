"""What `autotune plan` tells: every legal config with its memory and step time, by part.

Pure figures, JSON-able; how they are shown is the command's affair. The fastest configs that
are likely to fit come first; what does not fit says which part of memory is to blame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.config import ParameterValue
from autotune.costmodel.model import CostModel
from autotune.costmodel.table import Costs
from autotune.errors import BadInput
from autotune.space.legal_set import LegalSet
from autotune.space.search_space import SearchSpace

LIKELY = 0.5
DEFAULT_MOST = 200


@dataclass(frozen=True)
class PlanRow:
    """One config: seconds, GiB and tokens/s/GPU, 95% bands, and why it would not fit.

    ``alike`` counts the legal configs with the same prediction, itself included: they differ in
    parameters that the model does not know.
    """

    rank: int
    alike: int
    label: str
    values: Mapping[str, ParameterValue]
    fits: bool
    probability_fits: float
    step_time_s: float
    step_time_low_s: float
    step_time_high_s: float
    memory_gib: float
    memory_low_gib: float
    memory_high_gib: float
    tokens_per_s_per_gpu: float
    mfu: float
    step_time_by_part_s: Mapping[str, float]
    memory_by_part_gib: Mapping[str, float]
    reason: str
    baseline: bool


@dataclass(frozen=True)
class Exclusion:
    """One rule and how many raw points it removed; ``origin`` says whose rule it is."""

    rule: str
    reason: str
    origin: str
    count: int


@dataclass(frozen=True)
class Plan:
    """The table of one space: rows in order, exclusions, and what the figures rest on.

    ``distinct`` counts the different predictions; ``never_fitted`` says that no run of this GPU
    under this framework was fitted, so that bands are wide.
    """

    space: str
    framework: str
    hardware: str
    capacity_gib: float
    constants: str
    raw_points: int
    legal: int
    likely_to_fit: int
    distinct: int
    never_fitted: bool
    exclusions: tuple[Exclusion, ...]
    rows: tuple[PlanRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, for JSON."""
        return asdict(self)


def plan(space: SearchSpace, legal: LegalSet, most: int | None = DEFAULT_MOST) -> Plan:
    """Predict every legal config of a space; the ``most`` best rows, and the baseline's.

    Configs that are likely to fit come first, fastest first; then the others by how much they
    lack. Of configs predicted alike the first is shown; ``most`` None keeps all configs.
    BadInput when the space's model or hardware is unknown.
    """
    model = CostModel.for_space(space)
    if model is None:
        raise BadInput(
            f"{space.name}: a plan needs model, cluster.hardware (gpu), global_batch_size and "
            "seq_length; add the missing ones to the space"
        )
    table = model.prepare(legal.columns())
    costs = table.predict()
    chance = costs.probability_fits(model.capacity_gib)
    likely = chance >= LIKELY
    order = np.lexsort((np.where(likely, -costs.tokens_per_s_per_gpu, costs.memory_gib), ~likely))
    alike = np.bincount(table.row)
    if most is not None:
        order = order[np.sort(np.unique(table.row[order], return_index=True)[1])]
    shown = [int(i) for i in order[:most]]
    ranks = {int(table.row[i]): at for at, i in reversed(list(enumerate(order.tolist(), 1)))}
    base = legal.find(space.baseline) if space.baseline else None
    if base is not None and base not in shown:
        shown.append(base)
    writer = _RowWriter(costs, chance, model.capacity_gib, legal, base)
    return Plan(
        space=space.name,
        framework=model.workload.framework,
        hardware=model.hardware.name,
        capacity_gib=model.capacity_gib,
        constants=model.constants.origin,
        raw_points=legal.raw_points,
        legal=len(legal),
        likely_to_fit=int(likely.sum()),
        distinct=len(alike),
        never_fitted=model.constants.origin.startswith("never fitted"),
        exclusions=tuple(
            Exclusion(str(rule.expression), rule.reason, rule.origin, count)
            for rule, count in legal.exclusions
        ),
        rows=tuple(
            writer.row(i, ranks[int(table.row[i])], int(alike[table.row[i]])) for i in shown
        ),
    )


class _RowWriter:
    """Turns row numbers of one prediction into plain figures."""

    def __init__(
        self, costs: Costs, chance: npt.NDArray[np.float64], capacity_gib: float,
        legal: LegalSet, baseline: int | None,
    ) -> None:  # fmt: skip
        self.costs, self.chance, self.capacity_gib = costs, chance, capacity_gib
        self.legal, self.baseline = legal, baseline
        self.low, self.high = costs.band()
        self.memory_low, self.memory_high = costs.memory_band()

    def row(self, i: int, rank: int, alike: int) -> PlanRow:
        costs = self.costs
        config = self.legal.config(i)
        memory = {name: round(float(v[i]), 3) for name, v in costs.memory_parts.items()}
        return PlanRow(
            rank=rank,
            alike=alike,
            label=config.label,
            values=dict(config.values),
            fits=bool(self.chance[i] >= LIKELY),
            probability_fits=float(self.chance[i]),
            step_time_s=float(costs.step_time_s[i]),
            step_time_low_s=float(self.low[i]),
            step_time_high_s=float(self.high[i]),
            memory_gib=float(costs.memory_gib[i]),
            memory_low_gib=float(self.memory_low[i]),
            memory_high_gib=float(self.memory_high[i]),
            tokens_per_s_per_gpu=float(costs.tokens_per_s_per_gpu[i]),
            mfu=float(costs.mfu[i]),
            step_time_by_part_s={k: float(v[i]) for k, v in costs.time_parts.items()},
            memory_by_part_gib=memory,
            reason=self._reason(i, memory),
            baseline=i == self.baseline,
        )

    def _reason(self, i: int, memory: Mapping[str, float]) -> str:
        if self.chance[i] >= LIKELY:
            return ""
        part = max(memory, key=lambda name: memory[name])
        need = float(self.costs.memory_gib[i])
        return (
            f"needs about {need:.0f} of {self.capacity_gib:.0f} GiB, "
            f"{memory[part]:.0f} of them {part.replace('_', ' ')}"
        )
