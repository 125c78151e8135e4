"""The final of a time to train: who runs to the target loss, with which seed, and the score.

Throughput is the cheap first fidelity. It cannot tell learning rates apart, so the fastest layout
of every batch size qualifies with each learning rate; every candidate runs to the target once,
and the best of them, with the baseline, run with the remaining seeds. Pure functions over a
study's records: the controller runs what they name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autotune.config import Config, ParameterValue
from autotune.scoring import RUNS_TO_DROP_FROM, olympic_mean
from autotune.search.finalists import breaks_parity
from autotune.search.merit import log_cost
from autotune.search.proposal import LegalRows
from autotune.space.limits import Objective
from autotune.trial import Outcome, TrialRecord

Values = Mapping[str, ParameterValue]

SILENT = ("learning_rate", "warmup_steps", "weight_decay")
"""Parameters that change what is learned and not how long a step takes."""
LEARNED = ("global_batch_size", *SILENT)
QUALIFIERS = 3
"""So many candidates run once for each place in the final."""
UNTOLD = (Outcome.INFRA, Outcome.CANCELLED)


@dataclass(frozen=True)
class Turn:
    """A run to the target: the config, which of the seeds (from 0), and why."""

    values: Values
    seed: int
    reason: str


@dataclass(frozen=True)
class Runs:
    """The runs of one config to the target: seconds by seed, infinite where it was not reached."""

    values: Values
    times_s: Mapping[int, float]
    done: frozenset[int]
    """Seeds that had their turn, those that failed through no fault of the config included."""

    @property
    def score_s(self) -> float:
        """Seconds to the target as MLPerf scores them; infinite without enough runs that reach."""
        return olympic_mean(list(self.times_s.values())) if self.times_s else math.inf

    @property
    def mean_s(self) -> float:
        """Mean seconds of the runs that reached the target; infinite without one."""
        times = [time for time in self.times_s.values() if math.isfinite(time)]
        return sum(times) / len(times) if times else math.inf

    @property
    def reached(self) -> int:
        """How many runs reached the target."""
        return sum(math.isfinite(time) for time in self.times_s.values())

    def may_still_win(self, seeds: int) -> bool:
        """Whether enough of ``seeds`` runs can still reach: one may miss where one is dropped."""
        missed = len(self.times_s) - self.reached
        return missed <= (1 if seeds >= RUNS_TO_DROP_FROM else 0)


def runs_to_target(records: Iterable[TrialRecord]) -> dict[str, Runs]:
    """Finished runs to the target by config."""
    times: dict[str, dict[int, float]] = {}
    done: dict[str, set[int]] = {}
    values: dict[str, Values] = {}
    for record in records:
        if record.fidelity != "target" or not record.finished:
            continue
        seed = record.seed or 0
        values.setdefault(record.config_hash, record.values)
        done.setdefault(record.config_hash, set()).add(seed)
        if record.outcome not in UNTOLD:
            times.setdefault(record.config_hash, {})[seed] = time_to_target_s(record)
    return {key: Runs(values[key], times.get(key, {}), frozenset(done[key])) for key in values}


def time_to_target_s(record: TrialRecord) -> float:
    """Seconds until a run reached the target; infinite when it did not."""
    measured = record.measurement
    if record.outcome is not Outcome.OK or measured is None or measured.objective is None:
        return math.inf
    return measured.objective.value


def next_to_target(
    told: Sequence[TrialRecord], legal: LegalRows, objective: Objective, finalists: int,
    seeds: Sequence[int], opted_in: Sequence[str] = (),
) -> Turn | None:  # fmt: skip
    """Whose turn it is to run to the target; None once the final is over.

    ``seeds`` are the seeds themselves, the qualifying one first. A config that missed the target
    in more runs than the score forgives is out, and the next best takes its place. The best that
    leaves ``opted_in`` as the baseline has it takes part as well.
    """
    base = next((record for record in told if record.kind == "baseline"), None)
    if base is None or finalists <= 0:
        return None
    known = runs_to_target(told)
    entrants = [base.values, *qualifiers(told, legal, objective, base.values, finalists)]
    if not entrants[1:]:
        return None
    for place, values in enumerate(entrants):
        if seeds[0] not in _runs(known, values).done:
            who = "one of the fastest" if place else "the baseline"
            return Turn(values, seeds[0], f"{who}, to the target loss; seed 1 of {len(seeds)}")
    alive = [v for v in entrants[1:] if _runs(known, v).may_still_win(len(seeds))]
    alive.sort(key=lambda values: _runs(known, values).mean_s)
    kept = [v for v in alive if all(v.get(n) == base.values.get(n) for n in opted_in)][:1]
    rivals = [base.values, *alive[:finalists], *(v for v in kept if v not in alive[:finalists])]
    for number, seed in enumerate(seeds[1:], start=2):
        for values in rivals:
            runs = _runs(known, values)
            if seed not in runs.done and runs.may_still_win(len(seeds)):
                who = "the baseline" if _same(values, base.values) else "one of the best"
                reason = f"{who}, to the target loss; seed {number} of {len(seeds)}"
                return Turn(values, seed, reason)
    return None


def qualifiers(
    told: Sequence[TrialRecord], legal: LegalRows, objective: Objective, baseline: Values,
    finalists: int,
) -> list[Values]:  # fmt: skip
    """Candidates for the final, at most three for each place in it, without the baseline.

    The fastest layout for each way of learning (batch size and learning rate), those nearest
    to the baseline's first; where fewer ways exist, the next fastest configs fill up.
    """
    ranked = _by_speed(told, objective)
    fastest: dict[tuple[ParameterValue, ...], Values] = {}
    for values in ranked:
        for variant in _variants(values, legal):
            fastest.setdefault(tuple(variant.get(name) for name in LEARNED), variant)
    near = sorted(fastest.values(), key=lambda values: _steps_apart(values, baseline, legal))
    chosen = [dict(values) for values in near[: QUALIFIERS * finalists]]
    for values in ranked:
        if len(chosen) >= finalists:
            break
        if not any(_same(values, other) for other in chosen):
            chosen.append(dict(values))
    return [values for values in chosen if not _same(values, baseline)]


def _by_speed(told: Sequence[TrialRecord], objective: Objective) -> list[Values]:
    """Configs that the search measured, the fastest first; none that learns something else."""
    costs: dict[str, tuple[float, Values]] = {}
    for record in told:
        cost = log_cost(record, objective)
        if cost is not None and record.kind != "finalist" and not breaks_parity(record):
            costs[record.config_hash] = (cost, record.values)
    return [values for _, values in sorted(costs.values(), key=lambda pair: pair[0])]


def _variants(values: Values, legal: LegalRows) -> Iterator[Values]:
    """The config itself, then its twins that differ in one way of learning and in no speed."""
    yield values
    for name in SILENT:
        for choice in legal.choices.get(name, ()):
            row = legal.find({**values, name: choice})
            if row is not None:
                yield dict(legal.config(row).values)


def _steps_apart(values: Values, baseline: Values, legal: LegalRows) -> int:
    """How many choices lie between two ways of learning."""
    return sum(
        abs(legal.choices[name].index(values[name]) - legal.choices[name].index(baseline[name]))
        for name in LEARNED
        if name in legal.choices and values.get(name) is not None and baseline.get(name) is not None
    )


def _same(one: Values, other: Values) -> bool:
    """Whether two sets of values are one config; inactive parameters do not count."""
    return Config(one).hash == Config(other).hash


def _runs(known: Mapping[str, Runs], values: Values) -> Runs:
    return known.get(Config(values).hash, Runs(values, {}, frozenset()))
