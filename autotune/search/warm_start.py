"""What an earlier study taught about a cluster, carried into a new one.

Carried are the cost model's constants, so residuals of prediction and never throughputs: they hold
for other models of the family, and in part for another number or kind of GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autotune.costmodel import Calibrator, Constants, CostModel
from autotune.costmodel.constants import nominal
from autotune.search.ledger import Ledger
from autotune.search.prior import prepare_table
from autotune.search.proposal import LegalRows
from autotune.space.limits import Objective
from autotune.trial import TrialRecord

BETWEEN_STUDIES = 0.2
"""Share of a constant's widest prior that differs between two studies on one kind of cluster."""
OTHER_GPUS = 0.5
"""How much of a residual carries over to another kind or number of GPUs."""


def warm_started(
    model: CostModel, earlier: CostModel, legal: LegalRows, trials: Sequence[TrialRecord]
) -> CostModel:
    """``model`` with constants moved by what ``earlier``'s trials taught.

    ``legal`` is the legal set that ``trials`` were drawn from. Without a trial that ran, or out
    of memory, nothing moves. To another kind or number of GPUs half of the residual is carried,
    and no constant becomes surer.
    """
    ledger = Ledger(legal, Objective())
    ledger.update(trials)
    observations = ledger.observations(len(ledger.ran), earlier.capacity_gib)
    if not observations:
        return model
    before = earlier.constants
    learned = Calibrator(prepare_table(earlier, legal)).fit(observations).constants
    same = earlier.hardware.name == model.hardware.name and (
        earlier.cluster.world_size == model.cluster.world_size
    )
    return replace(model, constants=_carried(model.constants, before, learned, same, len(trials)))


def _carried(
    now: Constants, before: Constants, learned: Constants, same_gpus: bool, trials: int
) -> Constants:
    share = 1.0 if same_gpus else OTHER_GPUS
    apart = np.hypot(learned.sigma, BETWEEN_STUDIES * nominal().sigma)
    return replace(
        now,
        mean=now.mean + share * (learned.mean - before.mean),
        sigma=np.minimum(now.sigma, apart) if same_gpus else now.sigma,
        time_sigma=learned.time_sigma if same_gpus else now.time_sigma,
        origin=f"{now.origin}; moved by {trials} trials of an earlier study",
    )
