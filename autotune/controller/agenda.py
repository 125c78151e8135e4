"""What runs next: interrupted trials, then the baseline, then the search, then the finalists."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autotune.config import Config, ParameterValue
from autotune.controller.setting import Setting
from autotune.controller.standing import result
from autotune.search.fidelity import due_in_full
from autotune.search.finalists import next_finalist
from autotune.search.time_to_train import next_to_target
from autotune.trial import Fidelity, Outcome, Prediction, TrialKind, TrialRecord

USER_ERRORS_IN_A_ROW = 2
INFRA_IN_A_ROW = 3


@dataclass(frozen=True)
class Task:
    """A config to measure and why."""

    config: Config
    kind: TrialKind
    reason: str
    prediction: Prediction
    alone: bool = False
    fidelity: Fidelity = "full"
    seed: int | None = None


@dataclass(frozen=True)
class Over:
    """Nothing is left to do, and why."""

    reason: str


def _counts(record: TrialRecord) -> bool:
    """Whether a trial is one of the budget's: a check that fits goes on as another trial."""
    passed = record.fidelity == "check" and record.outcome is not Outcome.OOM_GPU
    return record.kind in ("baseline", "search", "audit") and not passed


class Agenda:
    """Decides the next task from what the record says; keeps no state of its own but the clock."""

    def __init__(self, setting: Setting, wall_time_used_s: float = 0.0) -> None:
        self._setting = setting
        self._started = time.monotonic() - wall_time_used_s
        self.stop_reason: str | None = None
        self._told_before: int | None = None

    @property
    def wall_time_s(self) -> float:
        """Wall time spent on the study, earlier sessions included."""
        return time.monotonic() - self._started

    def next(
        self, records: Sequence[TrialRecord], running: Sequence[TrialRecord]
    ) -> Task | Over | None:
        """The next task; None when only waiting for what runs can tell; Over at the end."""
        told = [record for record in records if record.finished]
        if self._told_before is None:
            self._told_before = len(told)
        stop = self._must_stop(told[self._told_before :])
        if stop is not None:
            return Over(stop) if not running else None
        if not any(record.kind == "baseline" for record in records):
            return self._baseline()
        if self.stop_reason is None:
            self.stop_reason = self._search_over(told, running)
        due = self._due_in_full(records, 1)
        if due is not None:
            return due
        if self.stop_reason is None:
            proposed = self._search(told, running)
            if proposed is not None:
                return proposed
            if running:
                return None
            self.stop_reason = "every legal config was measured"
        if running:
            return None
        due = self._due_in_full(records, self._setting.space.budget.finalists)
        return due or self._finalist(told) or Over(self.stop_reason)

    def _must_stop(self, told: Sequence[TrialRecord]) -> str | None:
        """Why going on is pointless, by the trials told since this controller started."""
        last = [record for record in told if record.outcome is not Outcome.CANCELLED]
        last = last[-USER_ERRORS_IN_A_ROW:]
        if len(last) == USER_ERRORS_IN_A_ROW and all(
            record.outcome is Outcome.USER_ERROR for record in last
        ):
            return f"two trials in a row failed in the user's own code: {last[-1].outcome_reason}"
        latest = told[-INFRA_IN_A_ROW:]
        if len(latest) == INFRA_IN_A_ROW and all(r.outcome is Outcome.INFRA for r in latest):
            why = latest[-1].outcome_reason
            return f"{INFRA_IN_A_ROW} trials in a row failed through no fault of theirs: {why}"
        return None

    def _baseline(self) -> Task:
        config = self._setting.baseline()
        reason = "the baseline, measured first"
        return self._first(Task(config, "baseline", reason, self._predicted(config)))

    def _first(self, task: Task) -> Task:
        """A task at the fidelity that the search runs at."""
        fidelity = self._setting.first_fidelity
        seed = self._setting.seeds[0] if fidelity == "target" else None
        return replace(task, fidelity=fidelity, seed=seed)

    def _predicted(self, config: Config) -> Prediction:
        index = self._setting.legal.find(config.values)
        predict = getattr(self._setting.proposer, "predict", None)
        if predict is None or index is None:
            return Prediction()
        found: Prediction = predict(index)
        return found

    def _search_over(
        self, told: Sequence[TrialRecord], running: Sequence[TrialRecord]
    ) -> str | None:
        budget = self._setting.space.budget
        counted = [r for r in (*told, *running) if _counts(r)]
        if budget.trials is not None and len(counted) >= budget.trials:
            return f"the budget of {budget.trials} trials is spent"
        gpu_hours = sum(record.gpu_seconds for record in told) / 3600.0
        if budget.gpu_hours is not None and gpu_hours >= budget.gpu_hours:
            return f"the budget of {budget.gpu_hours:g} GPU-hours is spent"
        if budget.wall_time_s is not None and self.wall_time_s >= budget.wall_time_s:
            return f"the budget of {budget.wall_time_s:g} s is spent"
        return self._setting.proposer.finished(told)

    def _search(self, told: Sequence[TrialRecord], running: Sequence[TrialRecord]) -> Task | None:
        legal = self._setting.legal
        pending = [legal.find(record.values) for record in running]
        proposal = self._setting.proposer.propose(told, [i for i in pending if i is not None])
        if proposal is None:
            return None
        config = legal.config(proposal.index)
        kind: TrialKind = "audit" if proposal.audit else "search"
        task = self._first(Task(config, kind, proposal.reason, proposal.prediction))
        fidelity, said = self._setting.smaller.first_look(config, proposal.prediction)
        if task.fidelity != "full" or not said or (proposal.audit and fidelity == "proxy"):
            return task
        return replace(task, fidelity=fidelity, reason=f"{task.reason}; {said}")

    def _due_in_full(self, records: Sequence[TrialRecord], most: int) -> Task | None:
        """A config whose check fitted, or that leads by proxy, as the whole job."""
        before = due_in_full(records, self._setting.space.objective, most)
        index = self._setting.legal.find(before.values) if before is not None else None
        if before is None or index is None:
            return None
        config = self._setting.legal.config(index)
        why = {"check": "it fitted", "proxy": "it leads by proxy"}[before.fidelity]
        if before.outcome is not Outcome.OK:
            why = "a smaller job told nothing"
        reason = f"in full, since {why} (trial {before.number})"
        return Task(config, before.kind, reason, before.prediction)

    def _finalist(self, told: Sequence[TrialRecord]) -> Task | None:
        finalists = self._setting.space.budget.finalists
        limit = self._setting.space.budget.wall_time_s
        spent = limit is not None and self.wall_time_s >= limit
        if spent and result(told, self._setting.maximize).winner is not None:
            return None
        if self._setting.times_training:
            return self._run_to_target(told, finalists)
        opted_in = self._setting.space.contract.search
        choice = next_finalist(told, finalists, self._setting.maximize, opted_in)
        return self._final(*choice) if choice is not None else None

    def _run_to_target(self, told: Sequence[TrialRecord], finalists: int) -> Task | None:
        setting = self._setting
        objective, seeds = setting.space.objective, setting.seeds
        opted_in = setting.space.contract.search
        turn = next_to_target(told, setting.legal, objective, finalists, seeds, opted_in)
        task = self._final(turn.values, turn.reason) if turn is not None else None
        if task is None or turn is None:
            return None
        return replace(task, fidelity="target", seed=turn.seed)

    def _final(self, values: Mapping[str, ParameterValue], reason: str) -> Task | None:
        index = self._setting.legal.find(values)
        if index is None:
            return None
        config = self._setting.legal.config(index)
        return Task(config, "finalist", reason, self._predicted(config), alone=True)
