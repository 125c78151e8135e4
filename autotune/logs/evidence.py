"""Collects the lines that tell what a run died of, while they stream by, in bounded memory."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from operator import itemgetter

from autotune.logs.failures import CHAIN, DOUBTFUL, HOLDS_OTHERS, KINDS, Row
from autotune.logs.named_parameters import names_parameters
from autotune.logs.prefix import find_rank
from autotune.logs.refusals import EXCEPTION, MAX_RANKS, Refusals
from autotune.logs.rows import ROWS
from autotune.logs.shape import MAX_CACHED_LINE, MAX_SHAPES, shape_of, shorten
from autotune.logs.tally import SampleTally
from autotune.trial import Diagnosis

KEEP_LINES = 4
KEEP_CHARACTERS = 600
SURVIVED_BY = 2

_WARNED = re.compile(r"\bWARN(?:ING)?\b|Warning\b|\bwarning:|\[NeMo W |\[W\d*[ \]]")
_INFORMED = re.compile(r"(?<![=_])\b(?:INFO|DEBUG)\b|\[NeMo [ID] |\[[ID]\d*[ \]]")
_RAISED = re.compile(
    r"(?:\[[\w ]+\]:? ?|\d+: )*(?:\w+\.)*\w*Error\b|.*\bXid\b|Last error" r"|.*[Ff]ail"
)
_CAUGHT = re.compile(
    r"(?i:caught|retry|recover|skipping|reducing|halving|falling back" r"|trying again)"
)
_FINISHED = re.compile(
    r"training completed|finished training|training (?:is )?(?:done|complete|finished)"
    r"|after training is done|`trainer\.fit` stopped|exits successfully|successfully finished"
    r"|\"run_stop\".*\"success\""
)
_FINISHED_STEMS = ("training", "trainer.fit", "exits success", "successfully fin", "run_stop")
MARKER = "^^"
"""Stands in the lines by which Python points into the line of source above."""

LITERALS = (*dict.fromkeys(row.needle for row in ROWS), *_FINISHED_STEMS)
"""A line that holds none of them, in lower case, proves nothing."""


@dataclass
class Finding:
    """One kind of failure as the log tells it: its lines, when they came, and who said them."""

    kind: str
    first: list[tuple[float, str]] = field(default_factory=list)
    latest: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=KEEP_LINES))
    ranks: set[int] = field(default_factory=set)
    count: int = 0
    parameters: tuple[str, ...] = ()

    def told(self) -> list[tuple[float, str]]:
        """Arrival (seconds) and text of the first and the latest lines, in their order."""
        return [*self.first, *self.latest]

    def since(self, moment: float) -> Finding | None:
        """The finding without the lines that came before ``moment``; None where none is left."""
        later = [line for line in self.told() if line[0] >= moment]
        return replace(self, first=later, latest=deque()) if later else None


def _by_needle() -> tuple[tuple[str, tuple[tuple[int, Row], ...]], ...]:
    """The rows of each needle, with their places in the table."""
    rows: dict[str, list[tuple[int, Row]]] = {}
    for place, row in enumerate(ROWS):
        rows.setdefault(row.needle, []).append((place, row))
    return tuple((needle, tuple(placed)) for needle, placed in rows.items())


_BY_NEEDLE = _by_needle()


class EvidenceCollector:
    """Feed it every line of every rank; ``findings`` maps kinds to what was seen of them."""

    def __init__(self) -> None:
        self.findings: dict[str, Finding] = {}
        self._previous: dict[int, str] = {}
        self._harmless: set[bytes | None] = set()
        self._ignoring: set[int] = set()
        self._refusals = Refusals()
        self._finished_s: float | None = None

    def feed(self, line: str, rank: int = 0, arrival_s: float = 0.0) -> None:
        """Looks at one clean line. Never raises; keeps at most four lines a kind."""
        shape = shape_of(line) if len(line) <= MAX_CACHED_LINE else None
        if not self.knows_harmless(shape):
            line = shorten(line)
            if self._look(line, rank, arrival_s) and shape is not None:
                if len(self._harmless) >= MAX_SHAPES:
                    self._harmless.clear()
                self._harmless.add(shape)
        if MARKER not in line:
            self.remember(line, rank)

    def knows_harmless(self, shape: bytes | None) -> bool:
        """Whether lines of this shape were seen to prove nothing."""
        return shape in self._harmless

    def remember(self, line: str, rank: int) -> None:
        """Keeps a line that was not fed: it may be what the next one complains about."""
        if rank in self._previous or len(self._previous) < MAX_RANKS:
            self._previous[rank] = line[:KEEP_CHARACTERS]

    def decisive(
        self, tally: SampleTally | None = None, ignore: frozenset[str] = frozenset()
    ) -> Finding | None:
        """The most telling finding that the run did not survive; None without one.

        A failure followed by two or more measured steps was caught, a mere traceback also when
        the program said afterwards that it was done. Of failures that bring each other about
        the first is the cause.
        """
        chain: list[Finding] = []
        for kind in KINDS:
            found = None if kind in ignore else self._fatal_part(kind, tally)
            if found is None:
                continue
            if kind not in CHAIN:
                return _earliest(chain) or found
            chain.append(found)
        return _earliest(chain)

    def fatal(
        self,
        tally: SampleTally | None = None,
        now_s: float | None = None,
        grace_s: float = 10.0,
    ) -> Diagnosis | None:
        """A verdict on a run that still goes on: one rank is lost, the others wait for it.

        Said at once where the error was raised to the top (a traceback, or a line that begins
        with the exception's name). Of one that the program may have caught it is said
        ``grace_s`` seconds after the line, where the time ``now_s`` on the clock of the
        arrivals is given, so that the program can take further steps.
        """
        found = self.decisive(tally, ignore=frozenset(KINDS) - HOLDS_OTHERS)
        if found is None:
            return None
        told = found.told()
        raised = self._fatal_part("died", tally) is not None
        raised = raised or any(_RAISED.match(text) for _, text in told)
        late = now_s is not None and now_s - told[-1][0] >= grace_s
        caught = any(_CAUGHT.search(text) for _, text in told)
        return to_diagnosis(found) if late or (raised and not caught) else None

    def _look(self, line: str, rank: int, arrival_s: float) -> bool:
        """Notes what the line proves; True when every line of its shape proves nothing."""
        lowered = line[find_rank(line)[1] :].lower()
        rows = _rows_for(lowered)
        row = next((row for row in rows if row.fits(lowered)), None)
        if row is None or row.kind is None:
            if _FINISHED.search(lowered) is not None:
                self._finished_s = arrival_s
                return False
            return all(row.digit_blind for row in rows)
        kind, parameters = self._look_closer(row.kind, line, lowered, rank)
        if kind is not None:
            self._note(kind, line, rank, arrival_s, parameters)
        return False

    def _note(
        self, kind: str, line: str, rank: int, arrival_s: float, parameters: tuple[str, ...]
    ) -> None:
        found = self.findings.setdefault(kind, Finding(kind))
        found.count += 1
        if len(found.ranks) < MAX_RANKS:
            found.ranks.add(rank)
        told = found.first if len(found.first) < KEEP_LINES else found.latest
        told.append((arrival_s, line.strip()[:KEEP_CHARACTERS]))
        found.parameters = tuple(dict.fromkeys((*found.parameters, *parameters)))

    def _look_closer(
        self, kind: str, line: str, lowered: str, rank: int
    ) -> tuple[str | None, tuple[str, ...]]:
        """Tells a refused configuration from a crash, and noise from both."""
        if "exception ignored in" in lowered:
            self._ignoring.add(rank)
            return None, ()
        if rank in self._ignoring and kind in ("crash", "died"):
            if kind == "crash":
                self._ignoring.discard(rank)
            return None, ()
        if kind in DOUBTFUL and _is_mild(kind, line, lowered):
            return None, ()
        if kind == "config":
            return kind, names_parameters(lowered)
        if kind == "died":
            self._refusals.feed_frame(lowered, rank)
        if kind != "crash":
            return kind, ()
        named = self._refusals.parameters(lowered, rank, self._previous.get(rank, ""))
        return (kind, ()) if named is None else ("config", named)

    def _fatal_part(self, kind: str, tally: SampleTally | None) -> Finding | None:
        """What was found of a kind since the run last showed that it goes on."""
        found = self.findings.get(kind)
        if found is None:
            return None
        moments = [arrival_s for arrival_s, _ in found.told()]
        alive = [moment for moment in moments if not self._survived(kind, moment, tally)]
        return found.since(min(alive)) if alive else None

    def _survived(self, kind: str, moment: float, tally: SampleTally | None) -> bool:
        forgiven = kind in ("crash", "died", "stopped", "cancelled")
        if forgiven and self._finished_s is not None and self._finished_s > moment:
            return True
        if tally is None:
            return False
        if kind == "nan":
            return tally.finite_losses_after(moment) >= SURVIVED_BY
        return tally.steps_after(moment) >= SURVIVED_BY


def _is_mild(kind: str, line: str, lowered: str) -> bool:
    """Whether the program itself says that it is no error.

    An exception at INFO is one, and WARN is how NCCL names what it fails on.
    """
    if _WARNED.search(line[:160]) is not None:
        return "NCCL WARN" not in line
    if kind not in ("missing", "config", "crash") or _INFORMED.search(line[:160]) is None:
        return False
    return EXCEPTION.search(lowered) is None


def _earliest(chain: list[Finding]) -> Finding | None:
    return min(chain, key=lambda one: one.told()[0][0], default=None)


def to_diagnosis(found: Finding) -> Diagnosis:
    """The verdict that a finding stands for."""
    ranks = ", ".join(map(str, sorted(found.ranks)[:8]))
    lines = tuple(text for _, text in found.told())
    reason = f"{found.kind} (rank {ranks}): {lines[0]}"
    return Diagnosis(KINDS[found.kind], reason, lines, found.parameters)


def _rows_for(lowered: str) -> list[Row]:
    """The rows whose needle the line contains, in the order of the table."""
    found = [placed for needle, rows in _BY_NEEDLE if needle in lowered for placed in rows]
    return [row for _, row in sorted(found, key=itemgetter(0))]
