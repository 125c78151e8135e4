"""Any Optuna sampler over the same legal set: what it draws becomes the nearest row not run yet.

The sampler sees an in-memory Optuna study that mirrors the history: real outcomes under the
rows that really ran, out of memory and refused configs as pruned trials with a violated
constraint, other failures as failed. Its random state follows from the seed and the number of
trials told, so a resumed study goes on alike.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.config import ParameterValue
from autotune.errors import BadInput
from autotune.search.distributions import distributions
from autotune.search.features import build_features
from autotune.search.fidelity import conclusive
from autotune.search.ledger import TEACHES_NOTHING, Ledger
from autotune.search.merit import log_cost
from autotune.search.orders import not_reached
from autotune.search.proposal import LegalRows, Proposal, Skipped
from autotune.space.limits import Objective
from autotune.trial import Outcome, TrialRecord

NOT_A_CHOICE = frozenset({"Base", "BaseGA", "BruteForce", "Grid", "PartialFixed"})
"""Samplers that are no choice of their own: abstract, or a grid, which `grid` is already."""
REFUSED = (Outcome.OOM_GPU, Outcome.INVALID_CONFIG)


def optuna_names() -> dict[str, type[BaseSampler]]:
    """Optuna's samplers by short name (``tpe``, ``gp``, ``random``, ``nsgaii``, ``cmaes`` ...)."""
    found = {
        name.removesuffix("Sampler"): getattr(optuna.samplers, name)
        for name in dir(optuna.samplers)
        if name.endswith("Sampler")
    }
    return {name.lower(): kind for name, kind in found.items() if name not in NOT_A_CHOICE}


def make_optuna_sampler(name: str, seed: int) -> BaseSampler:
    """A sampler by short name; BadInput when what it needs is not installed."""
    kind = optuna_names()[name]
    options = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return kind(**options)
    except ImportError as error:
        raise BadInput(f"sampler {name!r} needs a package that is missing: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Optuna from announcing a study in memory, and from saying what it cannot use."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Constraints have been set")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


class OptunaProposer:
    """Proposer that asks one of Optuna's samplers."""

    def __init__(self, name: str, legal: LegalRows, objective: Objective, seed: int = 0) -> None:
        self.name = name
        self.legal = legal
        self.objective = objective
        self.seed = seed
        self._ledger = Ledger(legal, objective)
        self._features = build_features(legal)
        self._distributions = distributions(legal)
        self._storage = InMemoryStorage()
        direction = optuna.study.StudyDirection.MINIMIZE
        with _quiet():
            self._study_id = self._storage.create_new_study([direction], self.name)
        self._asked: dict[int, int] = {}
        self._mirrored: set[int] = set()

    def propose(self, history: Sequence[TrialRecord], pending: Sequence[int]) -> Proposal | None:
        """The row nearest to what the sampler draws, of those neither run nor running."""
        self._ledger.update(history)
        free = ~self._ledger.visited
        free[list(pending)] = False
        if not free.any():
            return None
        sampler = make_optuna_sampler(self.name, self.seed * 1_000_003 + len(history))
        with _quiet():
            study = optuna.load_study(study_name=self.name, storage=self._storage, sampler=sampler)
            self._mirror(history, sampler, study)
            trial_id = self._storage.create_new_trial(self._study_id)
            drawn = self._drawn(sampler, study, trial_id)
        row = self._nearest(drawn, free)
        for name, value in self.legal.config(row).values.items():
            if value is not None:
                kind = self._distributions[name]
                internal = kind.to_internal_repr(value)
                self._storage.set_trial_param(trial_id, name, internal, kind)
        self._asked[row] = trial_id
        exact = all(self.legal.config(row).values.get(k) == v for k, v in drawn.items())
        return Proposal(row, f"{self.name}: {'drawn' if exact else 'nearest to its draw'}")

    def finished(self, history: Sequence[TrialRecord]) -> str | None:
        """Never: Optuna's samplers state no expected gain."""
        return None

    def skipped(self, history: Sequence[TrialRecord]) -> Iterator[Skipped]:
        """Rows not reached yet."""
        self._ledger.update(history)
        return not_reached(self._ledger)

    def _drawn(
        self, sampler: BaseSampler, study: optuna.Study, trial_id: int
    ) -> dict[str, ParameterValue]:
        """One draw over all parameters, jointly where the sampler can."""
        trial = self._storage.get_trial(trial_id)
        sampler.before_trial(study, trial)
        space = sampler.infer_relative_search_space(study, trial)
        space = {k: v for k, v in space.items() if k in self._distributions}
        drawn = sampler.sample_relative(study, trial, space)
        for name, kind in self._distributions.items():
            if name not in drawn:
                drawn[name] = sampler.sample_independent(study, trial, name, kind)
        return drawn

    def _nearest(self, drawn: dict[str, ParameterValue], free: NDArray[np.bool_]) -> int:
        point = self._features.encode(drawn)
        rows = np.flatnonzero(free)
        distance = ((self._features.values[rows] - point) ** 2).sum(axis=1)
        return int(rows[np.argmin(distance)])

    def _mirror(
        self, history: Sequence[TrialRecord], sampler: BaseSampler, study: optuna.Study
    ) -> None:
        """Tells the in-memory study what it does not know yet."""
        for record in history:
            row = self.legal.find(record.values)
            if record.number in self._mirrored or record.outcome is None or row is None:
                continue
            if record.outcome in TEACHES_NOTHING or not conclusive(record):
                continue
            self._mirrored.add(record.number)
            trial_id = self._asked.pop(row, None)
            if trial_id is None:
                trial_id = self._storage.create_new_trial(self._study_id, self._running(record))
            state, values = self._told(record)
            if record.outcome is Outcome.OK or record.outcome in REFUSED:
                violation = 1.0 if record.outcome in REFUSED else 0.0
                self._storage.set_trial_system_attr(trial_id, "constraints:runs", violation)
            sampler.after_trial(study, self._storage.get_trial(trial_id), state, values)
            self._storage.set_trial_state_values(trial_id, state, values)

    def _running(self, record: TrialRecord) -> FrozenTrial:
        active = {name: value for name, value in record.values.items() if value is not None}
        return create_trial(
            state=TrialState.RUNNING,
            params=active,
            distributions={name: self._distributions[name] for name in active},
        )

    def _told(self, record: TrialRecord) -> tuple[TrialState, list[float] | None]:
        cost = log_cost(record, self.objective)
        if cost is not None:
            return TrialState.COMPLETE, [cost]
        return (TrialState.PRUNED if record.outcome in REFUSED else TrialState.FAIL), None
