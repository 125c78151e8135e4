"""Who leads a study: the records of one config pooled, and which of them may win.

A config may win when one of its runs ended by itself or ran its full number of steps; a trial
stopped early is a measurement and no more. Runs of the same config are pooled: the value is
the mean over runs, the interval covers the spread between them as well as within.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scipy.special import stdtrit

from autotune.config import ParameterValue
from autotune.scoring import RUNS_TO_DROP_FROM
from autotune.search.finalists import LOSS_PARITY, breaks_parity
from autotune.search.time_to_train import runs_to_target
from autotune.trial import Interval, Outcome, TrialRecord


@dataclass(frozen=True)
class Standing:
    """One config with all its good runs."""

    config_hash: str
    values: Mapping[str, ParameterValue]
    numbers: tuple[int, ...]
    objective: Interval
    may_win: bool
    record: TrialRecord
    """The run that stands for the config: the last one that ran to its end."""
    turns: int = 0
    """How many of its runs were turns in the final."""
    reached: int | None = None
    """Of a time to train: how many of its runs reached the target."""
    parity: str = ""
    """How its first losses left the baseline's tolerance, so that it cannot win."""


@dataclass(frozen=True)
class Result:
    """How a study stands: winner, baseline, the gain between them, and ties with the winner.

    ``gain`` is winner over baseline as a ratio (above 1 is better), None without a measured
    baseline. ``ties`` are configs whose intervals overlap the winner's.
    """

    winner: Standing | None
    baseline: Standing | None
    gain: Interval | None
    ties: tuple[Standing, ...]
    unchanged: Standing | None = None
    """The best that leaves what the space opted in as the baseline has it; None without opt-ins."""


def pool(intervals: list[Interval]) -> Interval:
    """One interval for several runs of the same config.

    One run keeps its own. Of several, the mean, with the wider of the standard error between
    runs (Student's t, n-1) and the runs' own half-widths combined.
    """
    count = len(intervals)
    if count == 1:
        return intervals[0]
    mean = sum(interval.value for interval in intervals) / count
    within = math.sqrt(sum(((i.high - i.low) / 2) ** 2 for i in intervals)) / count
    spread = math.sqrt(sum((i.value - mean) ** 2 for i in intervals) / (count - 1))
    between = float(stdtrit(count - 1, 0.975)) * spread / math.sqrt(count)
    reach = max(i.high for i in intervals) - min(i.low for i in intervals)
    half = min(max(within, between), reach)
    return Interval(mean, mean - half, mean + half)


def standings(records: Iterable[TrialRecord], maximize: bool = True) -> list[Standing]:
    """All measured configs, best first; of a time to train, those that ran to the target."""
    everything = list(records)
    if any(record.fidelity == "target" for record in everything):
        return _by_time_to_train(everything)
    groups: dict[str, list[TrialRecord]] = {}
    for record in everything:
        if record.outcome is Outcome.OK and record.measurement and record.measurement.objective:
            groups.setdefault(record.config_hash, []).append(record)
    found = []
    for config_hash, runs in groups.items():
        whole = [run for run in runs if run.ran_to_end]
        counted = whole or runs
        objectives = [run.measurement.objective for run in counted if run.measurement]
        found.append(
            Standing(
                config_hash,
                counted[-1].values,
                tuple(run.number for run in counted),
                pool([objective for objective in objectives if objective]),
                bool(whole),
                counted[-1],
                sum(run.kind == "finalist" for run in counted),
                parity=_parity(runs),
            )
        )
    return sorted(found, key=lambda s: s.objective.value, reverse=maximize)


def best_so_far(records: Iterable[TrialRecord], maximize: bool = True) -> Standing | None:
    """What the next trial has to beat: one that learns something else sets no bar."""
    return next((s for s in standings(records, maximize) if not s.parity), None)


def _by_time_to_train(records: list[TrialRecord]) -> list[Standing]:
    """Configs that reached the target at least once, by the score that MLPerf gives their runs.

    One that missed it in more runs than the score forgives is shown, and may not win.
    """
    found = []
    for config_hash, runs in runs_to_target(records).items():
        own = [record for record in records if record.config_hash == config_hash]
        counted = [r for r in own if r.fidelity == "target" and r.outcome is Outcome.OK]
        if not counted or not runs.reached:
            continue
        times = sorted(time for time in runs.times_s.values() if math.isfinite(time))
        scored = math.isfinite(runs.score_s)
        if scored and len(runs.times_s) >= RUNS_TO_DROP_FROM:
            times = times[1:-1] if runs.reached == len(runs.times_s) else times[1:]
        found.append(
            Standing(
                config_hash,
                counted[-1].values,
                tuple(record.number for record in counted),
                pool([Interval(time, time, time) for time in times]),
                scored and runs.may_still_win(len(runs.times_s)),
                counted[-1],
                len(runs.done),
                reached=runs.reached,
                parity=_parity(own),
            )
        )
    return sorted(found, key=lambda s: (not s.may_win, s.objective.value))


def fastest_sample(records: Iterable[TrialRecord]) -> Interval | None:
    """The least seconds a sample that a trial of a time to train has shown."""
    times = [
        record.measurement.sample_time_s
        for record in records
        if record.outcome is Outcome.OK
        and not breaks_parity(record)
        and record.measurement
        and record.measurement.sample_time_s
    ]
    return min(times, key=lambda time: time.value, default=None)


def ratio(over: Interval, under: Interval) -> Interval | None:
    """A quotient of two intervals by their relative half-widths; None when it has no meaning."""
    if under.value <= 0 or over.value <= 0:
        return None
    value = over.value / under.value
    relative = math.hypot(
        (over.high - over.low) / 2 / over.value, (under.high - under.low) / 2 / under.value
    )
    return Interval(value, value * max(0.0, 1 - relative), value * (1 + relative))


def result(
    records: Iterable[TrialRecord], maximize: bool = True, opted_in: Iterable[str] = ()
) -> Result:
    """Winner, baseline, gain and ties; the winner is None when nothing may win.

    ``opted_in`` names what the space searches although it changes what is learned.

    Once a final was held, the winner comes out of it: one good run outside may tie, not win.
    """
    everything = list(records)
    ranked = standings(everything, maximize)
    base_hash = next((r.config_hash for r in everything if r.kind == "baseline"), None)
    baseline = next((s for s in ranked if s.config_hash == base_hash), None)
    eligible = [s for s in ranked if s.may_win and not s.parity]
    winner = next(iter(_in_the_final(eligible) or eligible), None)
    gain = None
    ties: tuple[Standing, ...] = ()
    if winner is not None:
        ties = tuple(
            s
            for s in ranked
            if s is not winner
            and s.objective.overlaps(winner.objective)
            and not (s.parity or (s.reached is not None and not s.may_win))
        )
        if baseline is not None:
            gain = (
                ratio(winner.objective, baseline.objective)
                if maximize
                else ratio(baseline.objective, winner.objective)
            )
    unchanged = _unchanged(everything, eligible, tuple(opted_in))
    return Result(winner, baseline, gain, ties, unchanged)


def _unchanged(
    records: list[TrialRecord], eligible: list[Standing], opted_in: tuple[str, ...]
) -> Standing | None:
    base = next((record for record in records if record.kind == "baseline"), None)
    if base is None or not opted_in:
        return None
    kept = [s for s in eligible if all(s.values.get(n) == base.values.get(n) for n in opted_in)]
    final = _in_the_final(kept)
    held = any(s.config_hash != base.config_hash for s in final)  # not of the baseline alone
    return next(iter(final if held else kept), None)


def _in_the_final(eligible: list[Standing]) -> list[Standing]:
    """Those that had turns in the final; of a time to train, as many seeds as anyone."""
    most = max((s.turns for s in eligible), default=0)
    timed = any(s.reached is not None for s in eligible)
    return [s for s in eligible if s.turns and (s.turns == most or not timed)]


def _parity(runs: Iterable[TrialRecord]) -> str:
    """The first note that says that a run learned something else."""
    notes = (note for run in runs if run.measurement for note in run.measurement.notes)
    return next((note for note in notes if note.startswith(LOSS_PARITY)), "")


def parity_note(
    losses: tuple[float, ...], reference: tuple[float, ...], tolerance: float
) -> str | None:
    """A note when first losses leave the baseline's by more than a relative tolerance."""
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(losses, reference, strict=False)
        if math.isfinite(ours) and math.isfinite(theirs)
    ]
    if not pairs:
        return None
    worst = max(pairs, key=lambda pair: abs(pair[0] - pair[1]) / max(abs(pair[1]), 1e-9))
    off = abs(worst[0] - worst[1]) / max(abs(worst[1]), 1e-9)
    if off <= tolerance:
        return None
    return (
        f"{LOSS_PARITY} a first loss of {worst[0]:.4f} where the baseline has {worst[1]:.4f} "
        f"({off:.1%} apart, tolerance {tolerance:.1%}): it learns something else and cannot win"
    )
