"""Lines in, step samples out, by any number of log formats at once.

    line --shape--> plan (where the figures stand) --slices--> figures --> StepSample

Logs repeat themselves: lines that differ only in their digits match alike, so the patterns run
once per shape and later lines of that shape are cut at the same places. A step told over
several lines gives several samples with the same step, each as soon as its line is complete;
whoever reads them merges by step. State is kept per stream (a rank's file) and bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from autotune.logs.cut import Cut, Place
from autotune.logs.format import UNITS, LinePattern, LogFormat
from autotune.logs.prefix import find_rank
from autotune.logs.samples import Stencil, stencil_for, to_sample
from autotune.logs.shape import MAX_CACHED_LINE, MAX_SHAPES, shape_of, shorten
from autotune.logs.tally import is_measured
from autotune.trial import StepSample

MAX_STREAMS = 4096
MAX_NOTES = 20
_BAR_TOTAL = "bar_total"
_OVERLAP = 80
_BAR_END = re.compile(r"(?<=\])(?=[^\[\]%]{0,80}%\|)")

_TELLS_A_STEP = frozenset(
    {"seconds", "loss", "tokens_per_s", "tokens_per_s_per_gpu", "samples_per_s"}
)


@dataclass(frozen=True)
class Plan:
    """How to read every line of one shape."""

    table: _Table
    opens: bool
    complete: bool
    rank: tuple[int, int] | None
    cut: Cut
    stencil: Stencil | None


@dataclass
class _Held:
    """A step whose lines are not all read yet."""

    figures: dict[str, float]
    tail: str
    arrival_s: float
    rank: int
    lines: int = 0


@dataclass(eq=False)
class _Table:
    """A format made ready: its patterns by kind, and what it remembers of each stream."""

    format: LogFormat
    needles: tuple[str, ...]
    opens: tuple[LinePattern, ...]
    inside: tuple[LinePattern, ...]
    beside: tuple[LinePattern, ...]
    complete: re.Pattern[str] | None
    continues: re.Pattern[str] | None
    held: dict[int, _Held] = field(default_factory=dict)
    last_step: dict[int, float] = field(default_factory=dict)
    locks: dict[int, float] = field(default_factory=dict)


def _prepare(log_format: LogFormat) -> _Table:
    patterns = log_format.patterns
    return _Table(
        log_format,
        log_format.needles,
        tuple(p for p in patterns if p.opens),
        tuple(p for p in patterns if p.held_only),
        tuple(p for p in patterns if not p.opens and not p.held_only),
        re.compile(log_format.complete) if log_format.complete else None,
        re.compile(log_format.continues) if log_format.continues else None,
    )


class Parser:
    """Reads one trial's log by a format, or by the members of one such as ``auto``.

    ``matched`` names the format that took the last line (None: no format did); ``notes`` holds
    contradictions seen, at most twenty; ``plans`` is what is known of lines by their shape, a
    new table once other formats are asked. Once the lines of a format were seen, the formats
    trusted less only add memory and extra figures to its steps.
    """

    def __init__(self, log_format: LogFormat) -> None:
        members = log_format.members or (log_format,)
        ordered = sorted(members, key=lambda one: one.precedence)
        self._tables = [_prepare(one) for one in ordered]
        self._holding = [one for one in self._tables if one.complete is not None]
        self._bare_rank = all(one.bare_rank for one in ordered)
        self._by_user = any(one.by_user for one in ordered)
        self.plans: dict[bytes, Plan | None] = {}
        self._leader: _Table | None = None
        self._fallbacks = any(one.fallback for one in ordered)
        self._only_bars = False
        self._steps_printed = False
        self.matched: str | None = None
        self.notes: list[str] = []

    def feed(self, line: str, arrival_s: float = 0.0, rank: int = 0) -> list[StepSample]:
        """The samples that ``line`` completed; ``rank`` is whose file the line stands in.

        A rank named in front of the line is believed over the file's. Never raises.
        """
        self.matched = None
        line = shorten(line)
        if "%|" in line and line.count("%|") > 1:
            parts = _BAR_END.split(line)
            return [one for part in parts for one in self._feed(part, arrival_s, rank)]
        return self._feed(line, arrival_s, rank)

    @property
    def literals(self) -> tuple[str, ...]:
        """A line that holds none of them is no format's, unless a step is held open."""
        return tuple(needle for one in self._tables for needle in one.needles)

    def holds(self, rank: int) -> bool:
        """Whether the next line of a rank's file may belong to the step before it."""
        for one in self._holding:  # noqa: SIM110 - asked twice a line
            if rank in one.held:
                return True
        return False

    def finish(self) -> list[StepSample]:
        """What was still held open when the log ended."""
        samples = []
        for one in self._holding:
            for stream in list(one.held):
                samples += self._release(one, stream)
        return samples

    def _feed(self, line: str, arrival_s: float, stream: int) -> list[StepSample]:
        samples: list[StepSample] = []
        for one in self._holding:
            if one.held and stream in one.held:
                samples += self._continue(one, line, stream)
        plan = self._plan(line)
        return samples if plan is None else samples + self.take(plan, line, arrival_s, stream)

    def take(self, plan: Plan, line: str, arrival_s: float, stream: int) -> list[StepSample]:
        """The samples of a line whose figures stand where the plan says; see `plans`."""
        one, stencil = plan.table, plan.stencil
        self.matched = one.format.name
        rank = stream if plan.rank is None else int(line[plan.rank[0] : plan.rank[1]])
        if stencil is not None and self.trusts(plan):
            return [self.count(plan, stencil.sample(line, rank, arrival_s), stream)]
        figures = plan.cut.figures(line)
        if not plan.opens:
            samples = self._release(one, stream)
            _place_beside(figures, one.last_step, stream)
            return samples + self._sample(one, figures, rank, arrival_s)
        if one.format.lock is not None and not _locked(one, stream, figures):
            return []
        return self._open(plan, line, figures, rank, arrival_s, stream)

    def trusts(self, plan: Plan) -> bool:
        """Whether a stencil's sample counts as it is."""
        return not plan.table.held and self._believes(plan.table)

    def count(self, plan: Plan, sample: StepSample, stream: int) -> StepSample:
        """Takes a sample that the plan's stencil made of a line."""
        self.matched = plan.table.format.name
        _remember(plan.table.last_step, stream, sample.step or 0)
        return sample

    def _plan(self, line: str) -> Plan | None:
        if self._by_user or len(line) > MAX_CACHED_LINE:
            return self._make_plan(line)
        shape = shape_of(line)
        try:
            return self.plans[shape]
        except KeyError:
            pass
        if len(self.plans) >= MAX_SHAPES:
            self.plans.clear()
        plan = self.plans[shape] = self._make_plan(line)
        return plan

    def _make_plan(self, line: str) -> Plan | None:
        rank, start = (None, 0) if self._by_user else find_rank(line, self._bare_rank)
        text = line[start:]
        for one in self._tables:
            if not any(needle in line for needle in one.needles):
                continue
            places: dict[str, Place] = {}
            opens = _find(one.opens, text, start, places)
            if opens:
                _find(one.inside, text, start, places)
            elif not _find(one.beside, text, start, places):
                continue
            complete = one.complete is None or one.complete.search(text) is not None
            whole = opens and complete and one.format.lock is None
            stencil = stencil_for(places.values(), line) if whole else None
            return Plan(one, opens, complete, rank, Cut(places.values(), line), stencil)
        return None

    def _open(
        self,
        plan: Plan,
        line: str,
        figures: dict[str, float],
        rank: int,
        arrival_s: float,
        stream: int,
    ) -> list[StepSample]:
        one = plan.table
        samples = self._release(one, stream) if one.held else []
        if "step" in figures:
            _remember(one.last_step, stream, figures["step"])
        elif stream in one.last_step and not one.format.by_user:
            figures["step"] = one.last_step[stream]
        if plan.complete:
            return samples + self._sample(one, figures, rank, arrival_s)
        if len(one.held) < MAX_STREAMS:
            one.held[stream] = _Held(figures, line[-_OVERLAP:], arrival_s, rank)
        return samples

    def _continue(self, one: _Table, line: str, stream: int) -> list[StepSample]:
        held = one.held[stream]
        held.lines += 1
        belongs = one.continues is None or one.continues.search(line)
        if not belongs or held.lines > one.format.max_lines:
            return self._release(one, stream)
        line = line[find_rank(line, self._bare_rank)[1] :]
        if not _find(one.opens, line, 0, {}):
            glue = "" if held.tail.endswith(" ") or line.startswith(" ") else " "
            joined = held.tail + glue + line
            places: dict[str, Place] = {}
            _find(one.inside, joined, 0, places)
            for name, value in Cut(places.values(), joined).figures(joined).items():
                held.figures.setdefault(name, value)
            held.tail = joined[-_OVERLAP:]
        return []

    def _release(self, one: _Table, stream: int) -> list[StepSample]:
        held = one.held.pop(stream, None) if one.held else None
        if held is None:
            return []
        if "step" in held.figures:
            _remember(one.last_step, stream, held.figures["step"])
        return self._sample(one, held.figures, held.rank, held.arrival_s)

    def _sample(
        self, one: _Table, figures: dict[str, float], rank: int, arrival_s: float
    ) -> list[StepSample]:
        sample, note = to_sample(figures, rank, arrival_s)
        if note is not None and len(self.notes) < MAX_NOTES:
            self.notes.append(note)
        bar = _BAR_TOTAL in figures
        if bar and self._steps_printed:
            return []
        if self._believes(one):
            self._note_leader(one, sample, bar)
            return [sample]
        leader = self._leader
        first = self._only_bars and one.format.fallback and _is_a_timed_step(sample)
        if leader is not None and leader.format.precedence < one.format.precedence and not first:
            step = leader.last_step.get(rank, next(iter(leader.last_step.values()), None))
            return [_beside_the_leader(sample, None if step is None else int(step))]
        if is_measured(sample) or sample.loss is not None:
            self._leader = one
            self._note_leader(one, sample, bar)
        return [sample]

    def _note_leader(self, one: _Table, sample: StepSample, bar: bool) -> None:
        """A framework's own line ends the reading of unknown programs' lines; a bar does not.

        Any program may show a bar, and none of them displaces steps that lines have timed.
        """
        self._only_bars = bar
        self._steps_printed = one.format.fallback and (
            self._steps_printed or _is_a_timed_step(sample)
        )
        if bar or one.format.fallback or not self._fallbacks:
            return
        self._fallbacks = False
        self._tables = [table for table in self._tables if not table.format.fallback]
        self.plans = {}

    def _believes(self, one: _Table) -> bool:
        """Whether the format's samples count as they are."""
        return self._leader is one or len(self._tables) == 1


def _find(
    patterns: tuple[LinePattern, ...], text: str, start: int, places: dict[str, Place]
) -> bool:
    """Adds where the patterns' figures stand; the first pattern to name a figure counts."""
    found = False
    for pattern in patterns:
        if pattern.needle not in text:
            continue
        match = pattern.compiled.search(text)
        if match is None:
            continue
        found = True
        for name in match.re.groupindex:
            begin, end = match.span(name)
            if begin >= 0:
                figure, factor = UNITS.get(name, (name, 1.0))
                places.setdefault(figure, Place(figure, factor, start + begin, start + end))
    return found


def _is_a_timed_step(sample: StepSample) -> bool:
    return sample.step is not None and is_measured(sample)


def _remember(steps: dict[int, float], stream: int, step: float) -> None:
    if stream in steps or len(steps) < MAX_STREAMS:
        steps[stream] = step


def _place_beside(figures: dict[str, float], steps: dict[int, float], stream: int) -> None:
    """Gives a line of its own the step before it; what comes before all steps is of step 0."""
    if "step" in figures:
        _remember(steps, stream, figures["step"])
    elif stream in steps:
        figures["step"] = steps[stream]
    elif not _TELLS_A_STEP.intersection(figures):
        figures["step"] = 0.0


def _beside_the_leader(sample: StepSample, step: int | None) -> StepSample:
    return StepSample(
        step=step,
        memory_gib=sample.memory_gib,
        rank=sample.rank,
        arrival_s=sample.arrival_s,
        extra=sample.extra,
    )


def _locked(one: _Table, stream: int, figures: dict[str, float]) -> bool:
    """Whether the line is of the job that was seen first in this stream."""
    name = one.format.lock
    if name is None or name not in figures:
        return True
    if len(one.locks) < MAX_STREAMS:
        one.locks.setdefault(stream, figures[name])
    return one.locks.get(stream) == figures[name]
