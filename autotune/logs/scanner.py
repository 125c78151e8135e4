"""Reads a trial's logs by the block: only lines that may tell something are looked at.

    block --shapes--> known to tell nothing, or where its figures stand --Sheet--> Parser.count
             |                                 `--where few lines share a shape--> Parser.take
             `--stems--> the few others that may matter --> Parser.feed, EvidenceCollector.feed

The answer is that of feeding every line of every block to both, which takes microseconds a line.
"""

from __future__ import annotations

from collections.abc import Iterator

from autotune.logs.evidence import LITERALS, MARKER, EvidenceCollector
from autotune.logs.parser import Parser, Plan
from autotune.logs.reader import wash
from autotune.logs.shape import MAX_CACHED_LINE, MAX_SHAPES, digits_blanked, shape_of
from autotune.logs.sheet import Sheet
from autotune.logs.stems import stems_of
from autotune.logs.tail import LogBlock, read_stamp
from autotune.trial import StepSample

_SMALL = 2048
"""Below so many bytes of unknown lines each is looked at: a live log brings a few at a time."""

_FEW = 4
"""So few lines of a shape are read faster one by one."""

_NOTHING, _EVIDENCE, _PARSER = 0, 1, 2
"""Whom a line may concern."""


class Scanner:
    """Feeds the blocks of all ranks to one trial's parser and evidence."""

    def __init__(self, parser: Parser, evidence: EvidenceCollector) -> None:
        self._parser = parser
        self._evidence = evidence
        self._plans = parser.plans
        self._known: dict[bytes, Plan | int] = {}
        self._sheets: dict[bytes, Sheet] = {}

    def feed(self, block: LogBlock) -> list[StepSample]:
        """The samples that the block completed, in the order of its lines. Never raises."""
        lines, rank = _Lines(block), block.rank
        parser, evidence = self._parser, self._evidence
        verdicts = self._judge(lines)
        ready = self._read_sheets(lines, verdicts)
        if self._count_all(ready, verdicts, rank):
            self._remember(lines, len(lines.raw), -1)
            return [ready[at] for at in sorted(ready)]
        samples: list[StepSample] = []
        looked = -1
        for at in self._order(verdicts, rank):
            verdict = verdicts[at]
            stale = self._plans is not parser.plans or parser.holds(rank)
            if isinstance(verdict, Plan) and not stale:
                if at in ready and parser.trusts(verdict):
                    samples.append(parser.count(verdict, ready[at], rank))
                    continue
                arrival_s, text = lines.read(at)
                samples += parser.take(verdict, text, arrival_s, rank)
                continue
            arrival_s, text = lines.read(at)
            if text:
                concerned = verdict in (_EVIDENCE, _EVIDENCE | _PARSER)
                if concerned:
                    self._remember(lines, at, looked)
                    evidence.feed(text, rank, arrival_s)
                    looked = at
                samples += parser.feed(text, arrival_s, rank)
                self._learn(lines, at, text, not concerned)
        self._remember(lines, len(lines.raw), looked)
        return samples

    def _read_sheets(self, lines: _Lines, verdicts: list[Plan | int]) -> dict[int, StepSample]:
        """The samples of lines that share their shape, by their places."""
        groups: dict[bytes, list[int]] = {}
        for at, (shape, verdict) in enumerate(zip(lines.shapes, verdicts, strict=True)):
            if verdict and shape in self._sheets:
                groups.setdefault(shape, []).append(at)
        ready: dict[int, StepSample] = {}
        for shape, places in groups.items():
            if len(places) > _FEW:
                raw = [lines.raw[at] for at in places]
                samples = self._sheets[shape].samples(raw, lines.rank, lines.offset_s)
                ready.update(zip(places, samples, strict=True))
        return ready

    def _count_all(
        self, ready: dict[int, StepSample], verdicts: list[Plan | int], rank: int
    ) -> bool:
        """Whether nothing is left to do for a block but to count what is ready; then it is done."""
        if not ready or len(ready) < sum(map(bool, verdicts)) or self._parser.holds(rank):
            return False
        chosen = [plan for at in ready if isinstance(plan := verdicts[at], Plan)]
        if len({plan.table for plan in chosen}) > 1 or not self._parser.trusts(chosen[0]):
            return False
        self._parser.count(chosen[0], ready[max(ready)], rank)
        return True

    def _judge(self, lines: _Lines) -> list[Plan | int]:
        """Where a line's figures stand, or whom it may concern."""
        if self._plans is not self._parser.plans:
            self._plans = self._parser.plans
            self._forget()
        known = self._known
        verdicts = [known.get(shape, -1) for shape in lines.shapes]
        unknown = [at for at, verdict in enumerate(verdicts) if verdict == -1]
        concerned = self._whom([lines.raw[at] for at in unknown])
        for at, concerns in zip(unknown, concerned, strict=True):
            verdicts[at] = concerns
        return verdicts

    def _whom(self, lines: list[bytes]) -> list[int]:
        text = b"\n".join(lines)
        if not lines or len(text) < _SMALL:
            return [_EVIDENCE | _PARSER] * len(lines)
        return stems_of(LITERALS, self._parser.literals).lines(text)

    def _order(self, verdicts: list[Plan | int], rank: int) -> Iterator[int]:
        """The lines that concern someone, and those after one that the parser holds open."""
        at = 0
        for chosen in [at for at, verdict in enumerate(verdicts) if verdict]:
            while at < chosen and self._parser.holds(rank):
                yield at
                at += 1
            yield chosen
            at = chosen + 1
        while at < len(verdicts) and self._parser.holds(rank):
            yield at
            at += 1

    def _learn(self, lines: _Lines, at: int, text: str, harmless: bool) -> None:
        """Keeps what is now known of all lines of a shape."""
        shape, raw = lines.shapes[at], lines.raw[at]
        if len(text) > MAX_CACHED_LINE or shape in self._known:
            return
        unstamped = shape_of(text)
        plans = self._parser.plans
        harmless = harmless or self._evidence.knows_harmless(unstamped)
        if unstamped not in plans or not harmless:
            return
        if len(self._known) >= MAX_SHAPES:
            self._forget()
        plan = plans[unstamped]
        self._known[shape] = plan or _NOTHING
        stamped = read_stamp(raw)[0] is not None
        if plan is not None and plan.stencil is not None and stamped and raw.isascii():
            self._sheets[shape] = Sheet(plan.stencil, plan.rank, raw.decode())

    def _forget(self) -> None:
        self._known.clear()
        self._sheets.clear()

    def _remember(self, lines: _Lines, end: int, begin: int) -> None:
        """Tells the evidence the last line between two that is no marker."""
        for at in range(end - 1, begin, -1):
            text = lines.text(at)
            if text and MARKER not in text:
                self._evidence.remember(text, lines.rank)
                return


class _Lines:
    """A block's lines, decoded only where one is asked for."""

    def __init__(self, block: LogBlock) -> None:
        text = wash(block.text)
        self.rank = block.rank
        self.raw = text.split(b"\n")
        self.shapes = digits_blanked(text).split(b"\n")
        self.offset_s = block.offset_s
        self._clock_at, self._clock_s = -1, block.before_s

    def read(self, at: int) -> tuple[float, str]:
        """When a line came and what it says; to be asked in the order of the lines."""
        stamp_s, body = read_stamp(self.raw[at])
        earlier = at
        while stamp_s is None and earlier > self._clock_at + 1:
            earlier -= 1
            stamp_s, _ = read_stamp(self.raw[earlier])
        if stamp_s is not None:
            self._clock_s = stamp_s + self.offset_s
        self._clock_at = at
        return self._clock_s, body.decode("utf-8", "replace")

    def text(self, at: int) -> str:
        """What a line says."""
        return read_stamp(self.raw[at])[1].decode("utf-8", "replace")
