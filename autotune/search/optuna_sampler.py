"""Our search as an Optuna sampler, for anyone's own Optuna script.

    sampler = AutotuneSampler({"tp": [1, 2, 4, 8], "mbs": [1, 2, 4]}, legal=lambda v: v["tp"] < 8)
    study = optuna.create_study(direction="maximize", sampler=sampler)

The parameters and their distributions are fixed from the first trial on; each trial gets one
whole legal row, never one that was run before. A pruned trial with a violated constraint
(``trial.set_constraint``) counts as out of memory, a failed one as a crash of unknown cause.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autotune.config import ParameterValue
from autotune.costmodel import CostModel
from autotune.errors import BadInput
from autotune.search.proposal import LegalRows
from autotune.search.rows import FiniteRows
from autotune.search.sampler import AutotuneProposer
from autotune.space.limits import Objective
from autotune.trial import Interval, Measurement, Outcome, TrialRecord

Choices = Mapping[str, "BaseDistribution | Sequence[ParameterValue]"]


class AutotuneSampler(BaseSampler):
    """Optuna sampler over a finite set of legal rows; the same seed draws the same sequence.

    ``parameters`` maps each name to its values or to an Optuna distribution with finitely many;
    the objective must suggest them with equal distributions. ``legal`` says which combinations
    may run. ``rows`` gives a legal set instead (every parameter categorical), ``cost_model``
    a prior over it. A value of 0 or less teaches nothing but that its row was run. When every
    row was run, the study is stopped and the best row drawn once more.
    """

    def __init__(
        self,
        parameters: Choices | None = None,
        legal: Callable[[Mapping[str, ParameterValue]], bool] | None = None,
        *,
        rows: LegalRows | None = None,
        cost_model: CostModel | None = None,
        seed: int = 0,
    ) -> None:
        if (parameters is None) == (rows is None):
            raise BadInput("AutotuneSampler needs either parameters or rows.")
        given = dict(parameters or {})
        self._rows = rows or FiniteRows.product(
            {name: _values(name, domain) for name, domain in given.items()}, legal
        )
        self._space = {
            name: _distribution(given.get(name), self._rows.choices[name])
            for name in self._rows.names
        }
        self._cost_model = cost_model
        self._seed = seed
        self._proposer: AutotuneProposer | None = None
        self._told: dict[int, TrialRecord] = {}

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The full parameters, the same for every trial."""
        return dict(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One whole legal row."""
        if len(study.directions) > 1:
            raise BadInput("AutotuneSampler judges by one objective; give the study one direction.")
        proposer = self._proposer_for(study)
        pending = []
        for other in study.get_trials(deepcopy=False):
            if other.state.is_finished():
                if other.number not in self._told:
                    self._told[other.number] = self._record(other)
            elif other.number != trial.number and other.params:
                pending.append(self._rows.find(self._values_of(other)))
        history = [self._told[number] for number in sorted(self._told)]
        proposal = proposer.propose(history, [row for row in pending if row is not None])
        if proposal is None:
            with contextlib.suppress(RuntimeError):  # outside of Study.optimize nothing runs on
                study.stop()
            best = proposer.ledger.best
            row = best[0] if best is not None else 0
        else:
            row = proposal.index
        values = self._rows.config(row).values
        return {name: value for name, value in values.items() if value is not None}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Refuses what was not declared: the legal rows hold no value for it."""
        raise BadInput(
            f"parameter {param_name!r} was suggested with {param_distribution}, which is not what "
            f"AutotuneSampler was given: {self._space.get(param_name, 'nothing of that name')}. "
            "Declare every parameter, with equal values, and suggest only those."
        )

    def _proposer_for(self, study: Study) -> AutotuneProposer:
        if self._proposer is None:
            maximize = study.direction == StudyDirection.MAXIMIZE
            objective = Objective(
                metric="tokens_per_s" if maximize else "step_time_s",
                direction="maximize" if maximize else "minimize",
            )
            self._proposer = AutotuneProposer(self._rows, self._cost_model, objective, self._seed)
        return self._proposer

    def _values_of(self, trial: FrozenTrial) -> dict[str, ParameterValue]:
        return {name: trial.params.get(name) for name in self._rows.names}

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        outcome, measurement = Outcome.CRASH, None
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            outcome = Outcome.OK
            figure = Interval(trial.value, trial.value, trial.value)
            measurement = Measurement(Interval(0.0, 0.0, 0.0), objective=figure)
        elif trial.state == TrialState.PRUNED:
            violated = any(value > 0.0 for value in trial.constraints.values())
            outcome = Outcome.OOM_GPU if violated else Outcome.CANCELLED
        return TrialRecord(
            trial.number,
            self._values_of(trial),
            str(trial.number),
            outcome=outcome,
            measurement=measurement,
        )


def _values(
    name: str, domain: BaseDistribution | Sequence[ParameterValue]
) -> Sequence[ParameterValue]:
    """The finitely many values of a domain; BadInput where they are not."""
    if isinstance(domain, CategoricalDistribution):
        return domain.choices
    if isinstance(domain, IntDistribution) and not domain.log:
        return range(domain.low, domain.high + 1, domain.step)
    if isinstance(domain, FloatDistribution) and domain.step is not None:
        count = round((domain.high - domain.low) / domain.step)
        return [domain.low + k * domain.step for k in range(count + 1)]
    if isinstance(domain, BaseDistribution):
        raise BadInput(
            f"{name}: {domain} has no finite list of values. Give the values themselves."
        )
    return domain


def _distribution(
    domain: BaseDistribution | Sequence[ParameterValue] | None, values: Sequence[ParameterValue]
) -> BaseDistribution:
    if isinstance(domain, BaseDistribution):
        return domain
    return CategoricalDistribution(list(values if domain is None else domain))
