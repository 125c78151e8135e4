"""Which change bought what: the path from the baseline to the winner, every rung measured.

    baseline --change--> rung --change--> ... --change--> winner
    winner with one change undone                (the same change judged in the other direction)

Gains along a path depend on its order, so each change is also taken back alone from the winner
(leave-one-out); where both agree the order did not matter. Rungs are whole runs of the same
study, told like any other; a config measured to its end before is not run again.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from autotune import figures
from autotune.config import ParameterValue
from autotune.controller.agenda import Over, Task
from autotune.controller.setting import Setting
from autotune.controller.standing import Standing, ratio, standings
from autotune.errors import BadInput
from autotune.study.record import Study
from autotune.trial import Interval, Outcome, Prediction, TrialRecord

Role = Literal["baseline", "step", "without"]
NOTE = "ladder"
LIKELY = 0.5
"""A config this likely to fit may stand on the path."""
MOST_TOGETHER, MOST_UNDONE = 5, 3
"""No more changes than these are made together to avoid a likely failure, or are undone."""


@dataclass(frozen=True)
class Rung:
    """One config of the ladder: after a step, or the winner without one change.

    ``changed`` names the parameters changed (or undone) together; more than one where no
    config between is legal, or all between are expected to run out of memory.
    """

    role: Role
    changed: tuple[str, ...]
    values: Mapping[str, ParameterValue]
    config_hash: str

    def to_json(self) -> dict[str, Any]:
        """The rung for the study's record."""
        return {**asdict(self), "values": dict(self.values), "changed": list(self.changed)}


@dataclass(frozen=True)
class Measured:
    """A rung with its figure.

    ``gain`` is against the rung before for a step; for a rung without one change, the winner
    against it. None where either has no figure; ``failure`` says why then.
    """

    rung: Rung
    objective: Interval | None
    gain: Interval | None
    trials: tuple[int, ...]
    failure: str = ""


def plan_ladder(setting: Setting, study: Study) -> tuple[Rung, ...]:
    """The rungs from the study's baseline to its winner, then the winner without each change.

    BadInput when there is no baseline or no winner, or both are the same config.
    """
    from autotune.controller.standing import result

    records = study.records()
    found = result(records, setting.maximize)
    base = next((record for record in records if record.kind == "baseline"), None)
    if base is None or found.winner is None:
        raise BadInput(f"study {study.name!r} has no baseline or no winner yet; nothing to explain")
    start, goal = _complete(setting, base.values), _complete(setting, found.winner.values)
    if start == goal:
        raise BadInput(f"study {study.name!r}: the baseline is the winner; no change to explain")
    groups = _groups(setting, start, goal, _expectation(setting, records))
    rungs = [_rung(setting, "baseline", (), start)]
    values = dict(start)
    for group in groups:
        values.update({name: goal[name] for name in group})
        rungs.append(_rung(setting, "step", group, values))
    alone = _undone(setting, start, goal) if len(groups) > 1 else []
    for group in alone:
        undone = {**goal, **{name: start[name] for name in group}}
        rungs.append(_rung(setting, "without", group, undone))
    return tuple(rungs)


def _undone(
    setting: Setting, start: Mapping[str, ParameterValue], goal: Mapping[str, ParameterValue]
) -> list[tuple[str, ...]]:
    """The smallest groups that can be taken back from the winner, each change in one at most.

    Whether they run is not asked: a change that the winner cannot run without has told so.
    """
    changed = [name for name in goal if goal[name] != start.get(name)]
    found: list[tuple[str, ...]] = []
    for size in range(1, min(MOST_UNDONE, len(changed) - 1) + 1):
        for group in itertools.combinations(changed, size):
            undone = {**goal, **{name: start[name] for name in group}}
            if not any(set(group) & set(known) for known in found) and (
                setting.legal.find(undone) is not None
            ):
                found.append(group)
    return found


def _complete(setting: Setting, values: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    """Values with the inactive parameters named too."""
    index = setting.legal.find(values)
    if index is None:
        raise BadInput("the config is no longer in the legal set of the study's space")
    return dict(setting.legal.config(index).values)


def _rung(
    setting: Setting, role: Role, changed: tuple[str, ...], values: Mapping[str, ParameterValue]
) -> Rung:
    index = setting.legal.find(values)
    assert index is not None
    config = setting.legal.config(index)
    return Rung(role, changed, dict(config.values), config.hash)


@dataclass(frozen=True, order=True)
class _Expectation:
    """What orders the steps, least first: what should run, then what should be fastest."""

    doubt: float
    step_time_s: float


def _expectation(setting: Setting, records: Sequence[TrialRecord]) -> Callable[[int], _Expectation]:
    """What is expected of a legal config by the cost model; whether it runs, where it was tried."""
    costs = fits = None
    if setting.cost_model is not None:
        costs = setting.cost_model.prepare(setting.legal.columns()).predict()
        fits = costs.probability_fits(setting.cost_model.capacity_gib)
    ran = {record.config_hash: record.outcome for record in records if record.finished}

    def expected(index: int) -> _Expectation:
        outcome = ran.get(setting.legal.config(index).hash)
        likely = float(fits[index]) if fits is not None else 1.0
        if outcome is not None:
            likely = float(outcome is Outcome.OK)
        doubt = 0.0 if likely >= LIKELY else 1.0 - likely
        return _Expectation(doubt, float(costs.step_time_s[index]) if costs is not None else 0.0)

    return expected


def _groups(
    setting: Setting,
    start: Mapping[str, ParameterValue],
    goal: Mapping[str, ParameterValue],
    expected: Callable[[int], _Expectation],
) -> list[tuple[str, ...]]:
    """Changes in order, each as few parameters at once as keep every config legal and running."""
    values = dict(start)
    left = [name for name in goal if goal[name] != start.get(name)]
    order = []
    while left:
        group = _next_group(setting, values, goal, left, expected)
        values.update({name: goal[name] for name in group})
        left = [name for name in left if name not in group]
        order.append(group)
    return order


def _next_group(
    setting: Setting,
    values: Mapping[str, ParameterValue],
    goal: Mapping[str, ParameterValue],
    left: Sequence[str],
    expected: Callable[[int], _Expectation],
) -> tuple[str, ...]:
    """The smallest group that should run; failing that, the one least likely not to."""
    doubtful = []
    for size in range(1, len(left)):
        legal = []
        for group in itertools.combinations(left, size):
            index = setting.legal.find({**values, **{name: goal[name] for name in group}})
            if index is not None:
                legal.append((expected(index), left.index(group[0]), group))
        if legal and min(legal)[0].doubt == 0.0:
            return min(legal)[2]
        doubtful += legal
        if doubtful and size >= MOST_TOGETHER:
            return min(doubtful)[2]
    return tuple(left)


def unmeasured(rungs: Sequence[Rung], records: Sequence[TrialRecord]) -> list[Rung]:
    """Rungs that no trial ran to its end and none failed on, each config once."""
    known = {r.config_hash for r in records if r.finished and _settles(r)}
    missing = {rung.config_hash: rung for rung in rungs if rung.config_hash not in known}
    return list(missing.values())


def _settles(record: TrialRecord) -> bool:
    """Whether a trial tells a rung's figure, or that the config itself has none."""
    if record.outcome is Outcome.OK:
        if record.fidelity == "throughput":
            return False
        return record.ran_to_end or record.kind == "rung"
    return record.outcome not in (Outcome.INFRA, Outcome.CANCELLED) or record.kind == "rung"


def budget_gpu_hours(rungs: Sequence[Rung], records: Sequence[TrialRecord]) -> float:
    """What measuring rungs will cost: the median whole run of this study, times their number."""
    whole = [record.gpu_seconds for record in records if record.ran_to_end]
    return statistics.median(whole or [0.0]) * len(rungs) / 3600


def measured(
    rungs: Sequence[Rung], records: Sequence[TrialRecord], maximize: bool
) -> list[Measured]:
    """Every rung with its pooled figure and its gain; steps compare with the last good one."""
    ranked = {standing.config_hash: standing for standing in standings(records, maximize)}
    steps = [rung for rung in rungs if rung.role != "without"]
    top = ranked.get(steps[-1].config_hash) if steps else None
    found: list[Measured] = []
    before: Standing | None = None
    for rung in rungs:
        standing = ranked.get(rung.config_hash)
        gain = None
        if rung.role == "without":
            gain = _gain(top, standing, maximize)
        else:
            gain = _gain(standing, before, maximize)
            before = standing or before
        failure = "" if standing else _failure(rung, records)
        found.append(
            Measured(
                rung,
                standing.objective if standing else None,
                gain,
                standing.numbers if standing else (),
                failure,
            )
        )
    return found


def _gain(over: Standing | None, under: Standing | None, maximize: bool) -> Interval | None:
    if over is None or under is None:
        return None
    better, worse = (over, under) if maximize else (under, over)
    return ratio(better.objective, worse.objective)


def _failure(rung: Rung, records: Sequence[TrialRecord]) -> str:
    last = [r for r in records if r.config_hash == rung.config_hash and r.finished]
    return f"{last[-1].outcome}: {figures.why(last[-1])}" if last else "not measured"


def kept_ladder(study: Study) -> tuple[Rung, ...]:
    """The ladder that was measured last in this study; empty when none was."""
    rows = study.noted(NOTE) or []
    return tuple(
        Rung(row["role"], tuple(row["changed"]), row["values"], row["config_hash"]) for row in rows
    )


class LadderAgenda:
    """Measures rungs, one after the other and alone, in place of a search."""

    def __init__(self, setting: Setting, rungs: Sequence[Rung], ended: str, used_s: float) -> None:
        self._setting = setting
        self._rungs = rungs
        self._ended = ended
        self.wall_time_s = used_s

    def next(
        self, records: Sequence[TrialRecord], running: Sequence[TrialRecord]
    ) -> Task | Over | None:
        """The next rung without a figure; Over with the search's own ending when all have one."""
        if running:
            return None
        missing = unmeasured(self._rungs, records)
        if not missing:
            return Over(self._ended)
        rung = missing[0]
        index = self._setting.legal.find(rung.values)
        assert index is not None
        config = self._setting.legal.config(index)
        changed = ", ".join(rung.changed)
        why = f"the winner without {changed}" if rung.role == "without" else f"after {changed}"
        reason = f"a rung of the ladder: {why}" if rung.changed else "the ladder's foot"
        predict = getattr(self._setting.proposer, "predict", None)
        expected = predict(index) if predict else Prediction()
        task = Task(config, "rung", reason, expected, alone=True)
        if not self._setting.times_training:
            return task
        return replace(task, fidelity="target", seed=self._setting.seeds[0])
