"""What a trial of ours is as one row of Optuna's storage, and the record that a row holds.

A row carries parameters, kind, reason and expectation from the moment it exists. Optuna states:
``ok`` is COMPLETE; ``oom_gpu`` and ``invalid_config`` are PRUNED with a violated constraint, so
that every Optuna sampler learns from them; the rest is FAIL.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from autotune.config import Config, ParameterValue
from autotune.study.codec import record_from_json
from autotune.study.intents import Intent
from autotune.trial import SMALLER, Outcome, TrialRecord

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

RESULT = "result"
CHOSEN = "chosen"
INTENT = "autotune:intent"


def trial_template(
    chosen: TrialRecord, distributions: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    """The RUNNING row to create for a record that has no number yet."""
    from optuna.trial import TrialState, create_trial

    active = {name: value for name, value in chosen.values.items() if value is not None}
    told = {
        "kind": chosen.kind,
        "reason": chosen.reason,
        "config_hash": chosen.config_hash,
        "prediction": dataclasses.asdict(chosen.prediction),
        "simulated": chosen.simulated,
        "fidelity": chosen.fidelity,
        "seed": chosen.seed,
    }
    return create_trial(
        state=TrialState.RUNNING,
        params=active,
        distributions={name: distributions[name] for name in active},
        user_attrs={CHOSEN: told},
        system_attrs={INTENT: Intent().to_json()},
    )


def told_state(record: TrialRecord) -> tuple[TrialState, list[float] | None]:
    """The state and values with which a trial that has ended is told."""
    from optuna.trial import TrialState

    if record.outcome is Outcome.OK and record.measurement and record.measurement.objective:
        return TrialState.COMPLETE, [record.measurement.objective.value]
    if record.outcome in (Outcome.OOM_GPU, Outcome.INVALID_CONFIG) or (
        record.outcome is Outcome.OK and record.fidelity in ("throughput", *SMALLER)
    ):
        return TrialState.PRUNED, None
    return TrialState.FAIL, None


def intent_of(trial: FrozenTrial) -> Intent:
    """What was last meant to be done with a trial."""
    return Intent.from_json(trial.system_attrs.get(INTENT))


def record_of(trial: FrozenTrial) -> TrialRecord:
    """The record that an Optuna trial of ours holds (a bare one for a stranger's trial)."""
    told = trial.user_attrs.get(RESULT)
    if isinstance(told, dict):
        try:
            return dataclasses.replace(record_from_json(told), number=trial.number)
        except ValueError:
            pass
    values: dict[str, ParameterValue] = dict(trial.params)
    chosen = trial.user_attrs.get(CHOSEN) or {}
    record = record_from_json(
        {"number": trial.number, "values": values, "config_hash": Config(values).hash, **chosen}
    )
    if trial.state.is_finished():
        record = dataclasses.replace(
            record, outcome=Outcome.CANCELLED, outcome_reason="told by another program"
        )
    return record
