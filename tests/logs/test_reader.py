"""Any bytes, in any chunks, become the same clean lines in bounded memory."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from autotune.logs import LogReader

PIECES = (
    b"loss 1.5|\n|\r|\r\n|\x1b[31m|\x1b]0;t\x07|\x1b|\0|\xff|\xe2\x96\x88|\xe2|step 3|[0m|"
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
).split(b"|")
ENOUGH = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)


def read(data: bytes, cuts: list[int], head: int = 48, tail: int = 16) -> list[str]:
    reader = LogReader(head, tail)
    lines, start = [], 0
    for cut in [*sorted(cuts), len(data)]:
        lines += reader.feed(data[start:cut])
        start = cut
    return lines + reader.close()


@given(ENOUGH | st.binary(max_size=400), st.data())
def test_any_chunking_gives_the_same_lines(data: bytes, draw: st.DataObject) -> None:
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=20))
    assert read(data, cuts) == read(data, [])
    assert read(data, list(range(len(data)))) == read(data, [])


@given(st.binary(max_size=400))
def test_lines_are_clean(data: bytes) -> None:
    for line in read(data, []):
        assert line and not any(ord(c) < 32 and c != "\t" for c in line)


def test_what_terminals_do_is_undone() -> None:
    data = b"\x1b[1;31mstep:\x1b[0m 3\r\nbar 10%\rbar 20%\r\x00l\x00o\x00ss \xff 2\n\n\nlast"
    assert read(data, []) == ["step: 3", "bar 10%", "bar 20%", "loss � 2", "last"]


def test_endless_line_keeps_head_and_tail() -> None:
    reader = LogReader(head=100, tail=50)
    assert reader.feed(b"begin" + b"x" * 10_000) == []
    for _ in range(1000):
        assert reader.feed(b"y" * 997) == []
    (line,) = reader.feed(b"the end\nnext")
    assert line.startswith("beginx") and line.endswith("ythe end")
    assert len(line) == 100 + 50 + 5
    assert reader.close() == ["next"]


def test_memory_stays_bounded_on_an_endless_line() -> None:
    reader = LogReader()
    chunk = b"z" * (1 << 16)
    tracemalloc.start()
    for _ in range(1024):
        reader.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    assert len(reader.close()[0]) < 70_000
