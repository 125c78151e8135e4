"""Follows the log segments that supervisors write, while they are being written.

    TRIAL_DIR/logs/rankK.SSS.log    "monotonic seconds<tab>line" a line, K the rank, SSS from 000

The reader keeps an offset per rank and never holds more than one read and one unfinished
line. Segments between the head and the tail may be deleted under it: it goes on at the next
one that is there and counts a gap. It starts from the beginning, so a controller that comes
back reads what its predecessor read.

Each host has a monotonic clock of its own. Stamps of another host (by its boot id, told in
``supervisor.N.json``) are moved to this reader's clock by what the wall clocks of both say; the
time between two lines of a rank is never touched by that.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SEGMENT_NAME = re.compile(r"^rank(\d{1,9})\.(\d{3,9})\.log$")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
READ_BYTES = 64 * 1024
READ_LIMIT = 4 * 1024 * 1024
LINE_LIMIT = 256 * 1024


class LogBlock(NamedTuple):
    """Whole lines of one rank as they stand in its file, the last without its line end.

    A line without a stamp is of the time of the line before it, the first ones of ``before_s``
    (seconds on the reader's clock, to which ``offset_s`` moves a stamp).
    """

    rank: int
    text: bytes
    before_s: float
    offset_s: float


class LogLine(NamedTuple):
    """One line of one rank: ``arrival_s`` is on the reader's monotonic clock, in seconds."""

    rank: int
    arrival_s: float
    text: bytes


@dataclass
class _Follower:
    """How far one rank's segments were read."""

    segment: int = 0
    offset: int = 0
    rest: bytes = b""
    last_arrival_s: float = 0.0
    segments: list[int] = field(default_factory=list)
    offset_s: float = 0.0


class TrialLogs:
    """Reads a trial's logs bit by bit; ``gaps`` counts deleted stretches per rank."""

    def __init__(self, trial_dir: Path) -> None:
        self.folder = trial_dir / "logs"
        self.gaps: dict[int, int] = {}
        self._followers: dict[int, _Follower] = {}

    @property
    def ranks(self) -> list[int]:
        """Ranks seen so far, in order."""
        return sorted(self._followers)

    def read(self, limit_bytes: int = READ_LIMIT) -> Iterator[LogLine]:
        """The lines of `read_blocks`."""
        for block in self.read_blocks(limit_bytes):
            yield from _lines(block)

    def drain(self) -> Iterator[LogLine]:
        """The lines of `drain_blocks`."""
        for block in self.drain_blocks():
            yield from _lines(block)

    def read_blocks(self, limit_bytes: int = READ_LIMIT) -> Iterator[LogBlock]:
        """New whole lines since the last call, at most about ``limit_bytes`` of them.

        Ranks take turns, so that one that floods cannot starve the others. Exhaust the
        iterator; call again for more. A last line without its newline is held back.
        """
        self._scan()
        budget = limit_bytes
        busy = True
        while busy and budget > 0:
            busy = False
            for rank in self.ranks:
                data = self._read_some(rank, min(READ_BYTES, max(1, budget)))
                if data is None:
                    continue
                busy = True
                budget -= len(data)
                block = self._whole_lines(rank, data)
                if block is not None:
                    yield block

    def drain_blocks(self) -> Iterator[LogBlock]:
        """Everything that is there, for a trial that has ended: unfinished last lines too."""
        while True:
            before = {rank: (f.segment, f.offset) for rank, f in self._followers.items()}
            yield from self.read_blocks()
            if before == {rank: (f.segment, f.offset) for rank, f in self._followers.items()}:
                break
        for rank in self.ranks:
            follower = self._followers[rank]
            if follower.rest:
                rest, follower.rest = follower.rest, b""
                yield self._block(rank, follower, rest)

    def _scan(self) -> None:
        found: dict[int, list[int]] = {}
        try:
            names = [entry.name for entry in self.folder.iterdir()]
        except OSError:
            return
        for name in names:
            match = SEGMENT_NAME.match(name)
            if match:
                found.setdefault(int(match[1]), []).append(int(match[2]))
        for rank, segments in found.items():
            if rank not in self._followers:
                offset_s = self._clock_offset_s(rank)
                self._followers[rank] = _Follower(offset_s=offset_s)
            self._followers[rank].segments = sorted(segments)

    def _clock_offset_s(self, rank: int) -> float:
        """Seconds to add to a rank's stamps; 0 for this host and where nothing was told."""
        for path in self.folder.parent.glob("supervisor.*.json"):
            try:
                told = json.loads(path.read_text(encoding="utf-8"))
                if rank not in told["ranks"]:
                    continue
                if told["boot_id"] == BOOT_ID.read_text().strip():
                    return 0.0
                there_s = float(told["wall_s"]) - float(told["monotonic_s"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            return there_s - (time.time() - time.monotonic())
        return 0.0

    def _read_some(self, rank: int, size: int) -> bytes | None:
        """The next bytes of a rank, moving to its next segment where one ended; None for none."""
        follower = self._followers[rank]
        while True:
            path = self.folder / f"rank{rank}.{follower.segment:03d}.log"
            data, deleted = b"", False
            try:
                with path.open("rb") as file:
                    file.seek(follower.offset)
                    data = file.read(size)
            except OSError:
                deleted = True
            if data:
                follower.offset += len(data)
                return data
            later = [segment for segment in follower.segments if segment > follower.segment]
            if not later:
                return None
            if deleted or later[0] > follower.segment + 1:
                self.gaps[rank] = self.gaps.get(rank, 0) + 1
                follower.rest = b""
            follower.segment, follower.offset = later[0], 0

    def _whole_lines(self, rank: int, data: bytes) -> LogBlock | None:
        follower = self._followers[rank]
        data = follower.rest + data
        end = data.rfind(b"\n")
        follower.rest = data[end + 1 :]
        if len(follower.rest) > LINE_LIMIT:
            end, follower.rest = len(data), b""
        return self._block(rank, follower, data[:end]) if end >= 0 else None

    @staticmethod
    def _block(rank: int, follower: _Follower, text: bytes) -> LogBlock:
        before_s = follower.last_arrival_s
        end = len(text)
        while end >= 0:
            begin = text.rfind(b"\n", 0, end) + 1
            stamp_s, _ = read_stamp(text[begin:end])
            if stamp_s is not None:
                follower.last_arrival_s = stamp_s + follower.offset_s
                break
            end = begin - 1
        return LogBlock(rank, text, before_s, follower.offset_s)


def read_stamp(line: bytes) -> tuple[float | None, bytes]:
    """A line's stamp (None: no supervisor stamped it) and its text."""
    stamp, tab, text = line.partition(b"\t")
    if tab:
        try:
            return float(stamp), text
        except ValueError:
            pass
    return None, line


def _lines(block: LogBlock) -> Iterator[LogLine]:
    arrival_s = block.before_s
    for line in block.text.split(b"\n"):
        stamp_s, text = read_stamp(line)
        if stamp_s is not None:
            arrival_s = stamp_s + block.offset_s
        yield LogLine(block.rank, arrival_s, text)
