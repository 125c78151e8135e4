"""Reading by the block gives what reading line by line gives, however the bytes arrive."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune.logs import EvidenceCollector, Parser, Scanner, format_from_metric, get_format
from autotune.logs import scanner as scanner_module
from autotune.logs.evidence import LITERALS
from autotune.logs.reader import clean
from autotune.logs.stems import stems_of
from autotune.logs.tail import LogBlock, TrialLogs

sys.path.insert(0, str(Path(__file__).parent))
from cases import load_cases

USER = format_from_metric({"pattern": r"loss[=: ]+(?P<loss>[0-9.]+)"})
FORMATS = {name: get_format(name) for name in ("megatron", "nemo", "hf", "torchtitan", "auto")}
FORMATS["user"] = USER
REAL = sorted({line for case in load_cases() for line in case.text.split(b"\n")})
ODD = [
    b"",
    b"\x1b[31mstep: 3  loss: 2.5\x1b[0m",
    b"AssertionError",
    b"    assert micro_batch_size % 2 == 0",
    b"           ^^^^^^^^^^^^^^^",
    b"training is do\x00ne",
    b"\xff\xfe error \xe2\x84\xaa",
    "RuntimeError: CUDA out of memor\u0130".encode(),
    b"no stamp",
    b"12",
    b"nan\tstamp",
    b"x" * 5000 + b" out of memory",
    b"er" + b"y" * 4092 + b"ror: it",
    b"a\rb loss: 1.5\r",
]


def stamped(lines: list[tuple[bytes, bool]]) -> bytes:
    return b"".join(
        (b"%d.250000\t" % at if has_stamp else b"") + line + b"\n"
        for at, (line, has_stamp) in enumerate(lines)
    )


def by_the_line(data: bytes, name: str) -> tuple[Any, ...]:
    parser, evidence, samples = (
        Parser(FORMATS.get(name) or get_format(name)),
        EvidenceCollector(),
        [],
    )
    arrival_s = 0.0
    for raw in data.split(b"\n"):
        stamp, tab, text = raw.partition(b"\t")
        try:
            arrival_s, text = (float(stamp), text) if tab else (arrival_s, raw)
        except ValueError:
            text = raw
        for line in clean(text):
            evidence.feed(line, 3, arrival_s)
            samples += parser.feed(line, arrival_s, 3)
    return repr(samples + parser.finish()), repr(evidence.findings), parser.notes


def by_the_block(data: bytes, name: str, cuts: list[int], folder: Path) -> tuple[Any, ...]:
    parser, evidence, samples = (
        Parser(FORMATS.get(name) or get_format(name)),
        EvidenceCollector(),
        [],
    )
    scanner, logs = Scanner(parser, evidence), TrialLogs(folder)
    (folder / "logs").mkdir(exist_ok=True)
    path, done = folder / "logs" / "rank3.000.log", 0
    path.unlink(missing_ok=True)
    for cut in [*sorted(cuts), len(data)]:
        with path.open("ab") as file:
            file.write(data[done:cut])
        done = cut
        for block in logs.read_blocks():
            samples += scanner.feed(block)
    for block in logs.drain_blocks():
        samples += scanner.feed(block)
    return repr(samples + parser.finish()), repr(evidence.findings), parser.notes


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
@pytest.mark.parametrize("name", FORMATS)
def test_blocks_read_as_lines_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    monkeypatch.setattr(scanner_module, "_SMALL", data.draw(st.sampled_from([0, 2048])))
    begin = data.draw(st.integers(0, len(REAL) - 1))
    few = REAL[begin : begin + 12]
    line = st.tuples(st.sampled_from(few) | st.sampled_from(ODD), st.integers(0, 9).map(bool))
    text = stamped(data.draw(st.lists(line, max_size=40)))
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    assert by_the_block(text, name, cuts, tmp_path) == by_the_line(text, name)


FIGURES = [
    b" iteration 7/ 90 | elapsed time per iteration (ms): 480.5 | lm loss: 8.9E+00 | "
    b"nan iterations: 0",
    b"[rank1]:[titan] root - step:  2  loss:  8.01  memory: 40.9GiB(5%)  tps: 5,018  mfu: 30.3%",
    b"iter 3: loss -0.0125, time 50.00ms, mfu -1.00%",
    b"iteration: 4 / 90 | consumed_tokens: 1 | time_per_iteration_ms: 4.7K | lm_loss: .5",
    b"step 0/9 | loss 1234567.12345678901 | step_time_s 0.5 | tokens 9 | tokens_per_s 3 | "
    b"memory_gib 2.1",
    b"nothing at all",
    "loss of 5 \N{GREEK SMALL LETTER ALPHA} step: 2  loss: 8.5  tps: 6".encode(),
]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.randoms(use_true_random=False), st.integers(1, 3), st.integers(0, 30))
@pytest.mark.parametrize("name", [*FORMATS, "sft", "nanotron", "nanogpt"])
def test_many_lines_of_a_shape_read_as_each_does(
    name: str, tmp_path: Path, random: Random, kinds: int, odd: int
) -> None:
    def drawn(line: bytes) -> bytes:
        return re.sub(rb"\d", lambda _: b"%d" % random.randrange(10), line)

    some = random.sample(FIGURES, kinds)
    lines = [drawn(random.choice(some)) for _ in range(90)]
    for _ in range(odd):
        lines.insert(random.randrange(90), random.choice(REAL + ODD))
    text = stamped([(line, random.random() < 0.95) for line in lines])
    cuts = [random.randrange(len(text)) for _ in range(random.randrange(4))]
    assert by_the_block(text, name, cuts, tmp_path) == by_the_line(text, name)


@pytest.mark.parametrize("name", FORMATS)
def test_every_excerpt_reads_alike(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner_module, "_SMALL", 0)
    for case in load_cases():
        text = stamped([(line, True) for line in case.text.split(b"\n")]) * 2
        cuts = list(range(0, len(text), 701))
        assert by_the_block(text, name, cuts, tmp_path) == by_the_line(text, name), case.name


HELD = " iteration {n}/ 90 | elapsed time per iteration (ms): {n}.5 |"
WRAPPED = " lm loss: {n}.25 | max allocated: {n}00 |"
WHOLE = HELD + " lm loss: {n}.75 | number of nan iterations:   0 |"
GENERIC = "step {n} loss {n}.125 step time {n} s"
MIXTURES = [
    [HELD, WRAPPED, WRAPPED, HELD, WRAPPED],  # a known line that belongs to an open step
    [GENERIC, GENERIC, WHOLE, GENERIC, WRAPPED],  # another format takes the lead in a block
]


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("name", ["megatron", "auto"])
def test_known_shapes_know_their_context(name: str, mixture: list[str], tmp_path: Path) -> None:
    lines = [line.format(n=n).encode() for n in range(1, 9) for line in mixture]
    lines = [line.format(n=1).encode() for line in sorted(set(mixture), reverse=True)] + lines
    text = stamped([(line, True) for line in lines])
    for cut in range(0, len(text), 97):
        assert by_the_block(text, name, [cut], tmp_path) == by_the_line(text, name)


@given(st.data())
def test_no_literal_is_overlooked(data: st.DataObject) -> None:
    literal = data.draw(st.sampled_from(LITERALS))
    around = st.text(st.characters(codec="ascii", exclude_characters="\n\r"), max_size=20)
    line = data.draw(around) + data.draw(st.sampled_from([literal, literal.upper()]))
    line += data.draw(around)
    groups = (("no such words",), LITERALS)
    assert stems_of(*groups).lines(b"first\n" + line.encode() + b"\nx")[1] & 2


def test_ordinary_lines_are_not_looked_at() -> None:
    lines = [b"fetched shard %d of 900 into the cache" % n for n in range(9)] + [b"CUDA error"]
    assert stems_of(LITERALS).lines(b"\n".join(lines)) == [0] * 9 + [1]


def test_a_state_of_known_shapes_stays_bounded() -> None:
    scanner = Scanner(Parser(get_format("megatron")), EvidenceCollector())
    for n in range(300):
        lines = (f"1.0\tworker {'e' * at}rror-free {'x' * n}" for at in range(30))
        scanner.feed(LogBlock(0, "\n".join(lines).encode(), 0.0, 0.0))
    assert 0 < len(scanner._known) <= 4096
