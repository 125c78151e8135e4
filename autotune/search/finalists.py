"""Which of the best to measure again, interleaved with the baseline, until one stands apart.

A single good number may be luck or a warm machine; runs of rivals taken in turns share whatever
drifts. Pure functions over a study's records: the controller runs what they name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autotune.config import ParameterValue
from autotune.trial import Interval, Outcome, TrialRecord

ROUNDS = 3
"""After this many turns each, rivals that still overlap are a tie."""
REACH = 0.9
"""A rival none of whose runs had this share of the leader's figure is out: no GPU time for it."""
LOSS_PARITY = "loss parity:"
"""How a measurement's note begins that says its first losses left the baseline's tolerance."""


@dataclass(frozen=True)
class Contender:
    """One config up for the final: its runs in the search and its turns in the final."""

    config_hash: str
    values: Mapping[str, ParameterValue]
    search: Interval
    turns: tuple[float, ...]
    is_baseline: bool

    @property
    def value(self) -> float:
        """Mean over its turns, else what the search measured."""
        return sum(self.turns) / len(self.turns) if self.turns else self.search.value

    @property
    def span(self) -> Interval:
        """Where its value lies: the range of two or more turns, else the search's interval."""
        if len(self.turns) < 2:
            return self.search
        return Interval(self.value, min(self.turns), max(self.turns))


def next_finalist(
    told: Sequence[TrialRecord],
    finalists: int,
    maximize: bool = True,
    opted_in: Sequence[str] = (),
) -> tuple[Mapping[str, ParameterValue], str] | None:
    """The values of the config whose turn it is and why; None once the final is over.

    ``told`` are finished trials, ``finalists`` how many of the best take part; besides them the
    baseline does, and the best that leaves ``opted_in`` as the baseline has it. A config that
    failed in the final, or learns something else than the baseline, is out.
    """
    rivals = contenders(told, finalists, maximize, opted_in)
    if not any(not rival.is_baseline for rival in rivals):
        return None
    alive = still_in(rivals, maximize)
    turn = min(len(rival.turns) for rival in alive)
    if turn >= ROUNDS or (turn >= 1 and len(alive) == 1):
        return None
    due = next(rival for rival in alive if len(rival.turns) == turn)
    others = len(alive) - 1
    why = "the baseline, in turn with the finalists" if due.is_baseline else "one of the best"
    return due.values, f"finalist, turn {turn + 1}: {why}; {others} others not separated from it"


def contenders(
    told: Sequence[TrialRecord], finalists: int, maximize: bool, opted_in: Sequence[str] = ()
) -> list[Contender]:
    """The baseline, then the best configs of the search, best first; none for 0 finalists.

    Only those within ``REACH`` of the leader, as it stands now: one whose turns belie its search
    lets the others back in. Last, where it is none of them, the best that has the baseline's
    values of ``opted_in``.
    """
    if finalists <= 0:
        return []
    groups: dict[str, list[TrialRecord]] = {}
    for record in told:
        groups.setdefault(record.config_hash, []).append(record)
    found = [c for c in (_contender(runs) for runs in groups.values()) if c is not None]
    found.sort(key=lambda c: -c.search.value if maximize else c.search.value)
    baseline = [c for c in found if c.is_baseline]
    others = [c for c in found if not c.is_baseline]
    leader = _leader(found, maximize).value if found else 0.0
    chosen = [c for c in found[:finalists] if not c.is_baseline and _in_reach(c, leader, maximize)]
    for base in baseline if opted_in else []:
        kept = [c for c in others if all(c.values.get(n) == base.values.get(n) for n in opted_in)]
        chosen += [c for c in kept[:1] if c not in chosen]
    return baseline + chosen


def still_in(rivals: Sequence[Contender], maximize: bool) -> list[Contender]:
    """Those that two turns or more have not shown to be behind the leader, the leader included."""
    leader = _leader(rivals, maximize)
    return [
        rival
        for rival in rivals
        if rival is leader
        or len(rival.turns) < 2
        or len(leader.turns) < 2
        or rival.span.overlaps(leader.span)
    ]


def _in_reach(rival: Contender, leader: float, maximize: bool) -> bool:
    """Whether any of a rival's runs came near the leader's figure."""
    shown = (rival.search.value, *rival.turns)
    return max(shown) >= REACH * leader if maximize else min(shown) <= leader / REACH


def _leader(rivals: Sequence[Contender], maximize: bool) -> Contender:
    return max(rivals, key=lambda rival: rival.value if maximize else -rival.value)


def _contender(runs: Sequence[TrialRecord]) -> Contender | None:
    good = [run for run in runs if run.outcome is Outcome.OK and run.measurement is not None]
    figures = [(run, run.measurement.objective) for run in good if run.measurement is not None]
    if any(_out(run) for run in runs):
        return None
    search = [figure for run, figure in figures if figure and run.kind != "finalist"]
    if not search:
        return None
    turns = tuple(figure.value for run, figure in figures if figure and run.kind == "finalist")
    return Contender(
        runs[0].config_hash,
        runs[0].values,
        search[-1],
        turns,
        any(run.kind == "baseline" for run in runs),
    )


def breaks_parity(run: TrialRecord) -> bool:
    """Whether a run's first losses left the tolerance around the baseline's."""
    notes = run.measurement.notes if run.measurement is not None else ()
    return any(note.startswith(LOSS_PARITY) for note in notes)


def _out(run: TrialRecord) -> bool:
    """Whether a run bars its config from winning."""
    if breaks_parity(run):
        return True
    harmless = (Outcome.OK, Outcome.INFRA, Outcome.CANCELLED)
    return run.kind == "finalist" and run.outcome not in harmless
