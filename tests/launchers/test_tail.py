"""Following segments while they are written, torn, deleted and flooded."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.launchers import rank
from autotune.logs.tail import BOOT_ID, LogLine, TrialLogs


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


def append(trial: Path, name: str, data: bytes) -> None:
    with (trial / "logs" / name).open("ab") as file:
        file.write(data)


def test_no_logs_yet_is_no_error(tmp_path: Path) -> None:
    logs = TrialLogs(tmp_path)
    assert list(logs.read()) == [] and logs.ranks == []


def test_only_new_whole_lines_come(trial: Path) -> None:
    logs = TrialLogs(trial)
    append(trial, "rank0.000.log", b"1.500000\tone\n2.500000\ttw")
    assert list(logs.read()) == [LogLine(0, 1.5, b"one")]
    append(trial, "rank0.000.log", b"o\n")
    append(trial, "rank1.000.log", b"2.6\tother\n")
    assert list(logs.read()) == [LogLine(0, 2.5, b"two"), LogLine(1, 2.6, b"other")]
    assert list(logs.read()) == []


def test_the_last_unfinished_line_comes_with_drain(trial: Path) -> None:
    append(trial, "rank0.000.log", b"1.0\tdone\n2.0\thalf")
    logs = TrialLogs(trial)
    assert [line.text for line in logs.drain()] == [b"done", b"half"]
    assert list(logs.drain()) == []


def test_goes_on_over_segments_and_counts_gaps(trial: Path) -> None:
    logs = TrialLogs(trial)
    for segment in (0, 1):
        append(trial, f"rank0.{segment:03d}.log", b"%d.0\ts%d\n" % (segment, segment))
    assert [line.text for line in logs.read()] == [b"s0", b"s1"]
    assert logs.gaps == {}
    append(trial, "rank0.004.log", b"4.0\ts4\n")
    append(trial, "rank0.005.log", b"5.0\ts5\n")
    assert [line.text for line in logs.read()] == [b"s4", b"s5"]
    assert logs.gaps == {0: 1}


def test_a_segment_deleted_half_read_is_a_gap(trial: Path) -> None:
    logs = TrialLogs(trial)
    append(trial, "rank0.000.log", b"0.0\ta\n0.0\thal")
    list(logs.read())
    (trial / "logs" / "rank0.000.log").unlink()
    append(trial, "rank0.001.log", b"1.0\tb\n")
    assert [line.text for line in logs.read()] == [b"b"]
    assert logs.gaps == {0: 1}


def test_one_call_is_bounded_and_ranks_take_turns(trial: Path) -> None:
    append(trial, "rank0.000.log", (b"1.0\t" + b"x" * 95 + b"\n") * 50_000)
    append(trial, "rank1.000.log", b"1.0\tquiet\n")
    logs = TrialLogs(trial)
    first = list(logs.read(limit_bytes=1_000_000))
    assert 9_000 < len(first) < 13_000
    assert any(line.rank == 1 for line in first)
    assert len(first) + sum(1 for _ in logs.drain()) == 50_001


def test_an_endless_line_is_cut(trial: Path) -> None:
    append(trial, "rank0.000.log", b"1.0\t" + b"z" * 3_000_000)
    lines = list(TrialLogs(trial).drain())
    assert all(len(line.text) < 600_000 for line in lines)
    assert sum(len(line.text) for line in lines) == 3_000_000


def test_a_new_reader_reads_the_same_again(trial: Path) -> None:
    append(trial, "rank0.000.log", b"1.0\ta\n2.0\tb\n")
    assert list(TrialLogs(trial).drain()) == list(TrialLogs(trial).drain())


def test_other_files_and_odd_lines_are_harmless(trial: Path) -> None:
    append(trial, "stacks.12.txt", b"no log")
    append(trial, "rank0.000.log", b"1.0\tgood\nno stamp\nword\ttab\n\n2.0\t\n")
    lines = list(TrialLogs(trial).drain())
    assert [line.text for line in lines] == [b"good", b"no stamp", b"word\ttab", b"", b""]
    assert [line.arrival_s for line in lines] == [1.0, 1.0, 1.0, 1.0, 2.0]


def test_stamps_of_another_host_are_moved_to_our_clock(trial: Path) -> None:
    """A node that booted a day ago and one that booted just now: both lines arrived 5 s ago."""
    for part, uptime_s in enumerate((86400.0, 60.0)):
        told = {"ranks": [part], "boot_id": f"boot-{part}"}
        told.update(wall_s=time.time(), monotonic_s=uptime_s)
        (trial / f"supervisor.{part}.json").write_text(json.dumps(told))
        first, second = uptime_s - 7.5, uptime_s - 5.0
        append(trial, f"rank{part}.000.log", b"%.6f\ta\n%.6f\tb\n" % (first, second))
    lines = list(TrialLogs(trial).drain())
    now = time.monotonic()
    for line in lines:
        age_s = 7.5 if line.text == b"a" else 5.0
        assert now - line.arrival_s == pytest.approx(age_s, abs=2.0)
    assert lines[1].arrival_s - lines[0].arrival_s == pytest.approx(2.5)


def test_stamps_of_this_host_are_exact(trial: Path) -> None:
    told = {"ranks": [0], "boot_id": BOOT_ID.read_text().strip(), "wall_s": 0.0, "monotonic_s": 0.0}
    (trial / "supervisor.0.json").write_text(json.dumps(told))
    append(trial, "rank0.000.log", b"12.345678\ta\n")
    assert next(iter(TrialLogs(trial).drain())).arrival_s == 12.345678


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=12))
def test_what_a_rank_writes_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    """Any bytes in any portions: the same lines come out as from the whole at once."""
    trial = tmp_path_factory.mktemp("trial")
    (trial / "logs").mkdir()
    source, sink = os.pipe()
    os.set_blocking(source, False)
    log = rank.RankLog(str(trial / "logs"), 3, source)
    logs = TrialLogs(trial)
    seen = []
    for piece in pieces:
        os.write(sink, piece)
        log.drain()
        seen += list(logs.read())
    os.close(sink)
    while log.drain() > 0:
        pass
    log.close()
    seen += list(logs.drain())
    whole = b"".join(pieces).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    expected = whole.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert [line.text for line in seen] == expected
