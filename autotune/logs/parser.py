"""Lines in, step samples out, by any number of log formats at once.

    line --prefix--> rank, text --needles--> formats --patterns--> figures --> StepSample

A step told over several lines gives several samples with the same step, each as soon as its
line is complete; whoever reads them merges by step. State is kept per stream and bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from autotune.logs.format import LinePattern, LogFormat
from autotune.logs.prefix import split_rank
from autotune.logs.samples import to_figures, to_sample
from autotune.logs.tally import is_measured
from autotune.trial import StepSample

MAX_STREAMS = 4096
MAX_NOTES = 20
_OVERLAP = 80
_BAR_END = re.compile(r"(?<=\])(?=[^\[\]%]{0,80}%\|)")


@dataclass
class _Held:
    """A step whose lines are not all read yet."""

    figures: dict[str, float]
    tail: str
    arrival_s: float
    rank: int
    lines: int = 0


@dataclass
class _Table:
    """A format made ready: its patterns by kind."""

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
    contradictions seen, at most twenty. Once the lines of a format were seen, the formats
    trusted less only add memory and extra figures to its steps, and a format that reads any
    line (one without a needle) is not asked at all.
    """

    def __init__(self, log_format: LogFormat) -> None:
        members = log_format.members or (log_format,)
        ordered = sorted(members, key=lambda one: one.precedence)
        self._tables = [_prepare(one) for one in ordered]
        self._bare_rank = all(one.bare_rank for one in ordered)
        self._by_user = any(one.by_user for one in ordered)
        self._leader: _Table | None = None
        self.matched: str | None = None
        self.notes: list[str] = []

    def feed(self, line: str, arrival_s: float = 0.0, rank: int = 0) -> list[StepSample]:
        """The samples that ``line`` completed; ``rank`` is whose file the line stands in.

        A rank named in front of the line is believed over the file's. Never raises.
        """
        self.matched = None
        if line.count("%|") > 1:
            parts = _BAR_END.split(line)
            return [one for part in parts for one in self._feed(part, arrival_s, rank)]
        return self._feed(line, arrival_s, rank)

    def _feed(self, line: str, arrival_s: float, rank: int) -> list[StepSample]:
        samples: list[StepSample] = []
        for one in self._tables:
            if one.held and rank in one.held:
                samples += self._continue(one, line, rank)
            for needle in one.needles:
                if needle in line:
                    break
            else:
                continue
            found = self._read(one, line, arrival_s, rank)
            if found is not None:
                self.matched = one.format.name
                samples += found
                break
        return samples

    def finish(self) -> list[StepSample]:
        """What was still held open when the log ended."""
        samples = []
        for one in list(self._tables):
            for stream in list(one.held):
                samples += self._release(one, stream)
        return samples

    def _read(
        self, one: _Table, line: str, arrival_s: float, stream: int
    ) -> list[StepSample] | None:
        named, text = (None, line) if self._by_user else split_rank(line, self._bare_rank)
        rank = stream if named is None else named
        figures: dict[str, float] = {}
        if _search(one.opens, text, figures):
            _search(one.inside, text, figures)
            if not _locked(one, stream, figures):
                return []
            return self._open(one, _Held(figures, text, arrival_s, rank), stream)
        if not _search(one.beside, text, figures):
            return None
        samples = self._release(one, stream)
        figures.setdefault("step", one.last_step.get(stream, 0.0))
        return samples + self._sample(one, figures, rank, arrival_s)

    def _open(self, one: _Table, step: _Held, stream: int) -> list[StepSample]:
        samples = self._release(one, stream)
        figures = step.figures
        if "step" in figures:
            if stream in one.last_step or len(one.last_step) < MAX_STREAMS:
                one.last_step[stream] = figures["step"]
        elif stream in one.last_step and not one.format.by_user:
            figures["step"] = one.last_step[stream]
        if one.complete is not None and not one.complete.search(step.tail):
            if len(one.held) < MAX_STREAMS:
                step.tail = step.tail[-_OVERLAP:]
                one.held[stream] = step
            return samples
        return samples + self._sample(one, figures, step.rank, step.arrival_s)

    def _continue(self, one: _Table, line: str, stream: int) -> list[StepSample]:
        held = one.held[stream]
        held.lines += 1
        belongs = one.continues is None or one.continues.search(line)
        if not belongs or held.lines > one.format.max_lines:
            return self._release(one, stream)
        if not _search(one.opens, line, {}):
            glue = "" if held.tail.endswith(" ") or line.startswith(" ") else " "
            joined = held.tail + glue + line
            found: dict[str, float] = {}
            _search(one.inside, joined, found)
            for name, value in found.items():
                held.figures.setdefault(name, value)
            held.tail = joined[-_OVERLAP:]
        return []

    def _release(self, one: _Table, stream: int) -> list[StepSample]:
        held = one.held.pop(stream, None)
        if held is None:
            return []
        if "step" in held.figures:
            one.last_step[stream] = held.figures["step"]
        return self._sample(one, held.figures, held.rank, held.arrival_s)

    def _sample(
        self, one: _Table, figures: dict[str, float], rank: int, arrival_s: float
    ) -> list[StepSample]:
        sample, note = to_sample(figures, rank, arrival_s)
        if note is not None and len(self.notes) < MAX_NOTES:
            self.notes.append(note)
        leader = self._leader
        if leader is one or len(self._tables) == 1:
            return [sample]
        if leader is not None and leader.format.precedence < one.format.precedence:
            step = leader.last_step.get(rank, next(iter(leader.last_step.values()), None))
            return [_beside_the_leader(sample, None if step is None else int(step))]
        if is_measured(sample) or sample.loss is not None:
            self._leader = one
            if "" not in one.needles:
                self._tables = [table for table in self._tables if "" not in table.needles]
        return [sample]


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


def _search(patterns: tuple[LinePattern, ...], text: str, figures: dict[str, float]) -> bool:
    """Adds what the patterns find in ``text`` to ``figures``; the first to name one counts."""
    any_found = False
    for pattern in patterns:
        if pattern.needle in text:
            match = pattern.compiled.search(text)
            if match is not None:
                any_found = True
                for name, value in to_figures(match.groupdict()).items():
                    figures.setdefault(name, value)
    return any_found
