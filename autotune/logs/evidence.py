"""Collects the lines that tell what a run died of, while they stream by, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from autotune.logs.failure_rows import ROWS
from autotune.logs.failures import AFTERMATH, KINDS, STEMS, Row
from autotune.logs.tally import SampleTally
from autotune.trial import Diagnosis

KEEP_LINES = 4
KEEP_CHARACTERS = 600
SURVIVED_BY = 2


@dataclass
class Finding:
    """One kind of failure as the log tells it: the first lines, who said it, and when."""

    kind: str
    lines: list[str] = field(default_factory=list)
    ranks: set[int] = field(default_factory=set)
    count: int = 0
    first_arrival_s: float = 0.0
    last_arrival_s: float = 0.0
    parameters: tuple[str, ...] = ()


def _index() -> dict[str, tuple[Row, ...]]:
    by_stem: dict[str, list[Row]] = {stem: [] for stem in STEMS}
    for row in ROWS:
        by_stem[next(stem for stem in STEMS if stem in row.needle)].append(row)
    return {stem: tuple(rows) for stem, rows in by_stem.items()}


_ORDER = {row: place for place, row in enumerate(ROWS)}
_BY_STEM = _index()


class EvidenceCollector:
    """Feed it every line of every rank; ``findings`` maps kinds to what was seen of them."""

    def __init__(self) -> None:
        self.findings: dict[str, Finding] = {}

    def feed(self, line: str, rank: int = 0, arrival_s: float = 0.0) -> None:
        """Looks at one clean line. Never raises; keeps at most four lines a kind."""
        lowered = line.lower()
        kind = _kind_of(lowered)
        if kind is None:
            return
        found = self.findings.get(kind)
        if found is None:
            found = self.findings[kind] = Finding(kind, first_arrival_s=arrival_s)
        found.count += 1
        found.last_arrival_s = max(arrival_s, found.last_arrival_s)
        if len(found.ranks) < 1024:
            found.ranks.add(rank)
        if len(found.lines) < KEEP_LINES:
            found.lines.append(line.strip()[:KEEP_CHARACTERS])

    def decisive(
        self, tally: SampleTally | None = None, ignore: frozenset[str] = frozenset()
    ) -> Finding | None:
        """The most telling finding that the run did not survive; None without one.

        A failure followed by two or more measured steps was caught.
        """
        for kind in KINDS:
            found = self.findings.get(kind)
            if found is not None and kind not in ignore and not _survived(found, tally):
                return found
        return None

    def fatal(self, tally: SampleTally | None = None) -> Diagnosis | None:
        """A verdict that needs no exit status, for which no time limit need be awaited."""
        found = self.decisive(tally, ignore=AFTERMATH)
        return None if found is None else to_diagnosis(found)


def to_diagnosis(found: Finding) -> Diagnosis:
    """The verdict that a finding stands for."""
    ranks = ", ".join(map(str, sorted(found.ranks)[:8]))
    reason = f"{found.kind} (rank {ranks}): {found.lines[0]}"
    return Diagnosis(KINDS[found.kind], reason, tuple(found.lines), found.parameters)


def _kind_of(lowered: str) -> str | None:
    best: Row | None = None
    for stem, rows in _BY_STEM.items():
        if stem in lowered:
            for row in rows:
                if (best is None or _ORDER[row] < _ORDER[best]) and row.fits(lowered):
                    best = row
                    break
    return None if best is None else best.kind


def _survived(found: Finding, tally: SampleTally | None) -> bool:
    if tally is None:
        return False
    if found.kind == "nan":
        return tally.finite_losses_after(found.last_arrival_s) >= SURVIVED_BY
    return tally.measured_after(found.last_arrival_s) >= SURVIVED_BY
