"""Figures reach their fields in their units, whatever else is in the log."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.errors import BadInput
from autotune.logs import (
    EvidenceCollector,
    LogReader,
    Parser,
    SampleTally,
    diagnose,
    format_from_metric,
    get_format,
    known_formats,
)
from autotune.logs.prefix import find_rank
from autotune.trial import StepSample

MEGATRON = (
    " iteration {n:8d}/     100 | consumed samples: {n:12d} | elapsed time per iteration (ms): "
    "{ms:.1f} | learning rate: 1.0E-05 | global batch size:    16 | lm loss: {loss:.6E} | "
    "loss scale: 1.0 | number of skipped iterations:   0 | number of nan iterations:   0 |"
)
RECORDS = [MEGATRON.format(n=n, ms=500.0 + n, loss=9.0 - n / 10) for n in range(1, 9)]


def parse(name: str, data: bytes, chunk: int = 1 << 16) -> list[StepSample]:
    reader, parser = LogReader(), Parser(get_format(name))
    lines = [
        line for at in range(0, len(data), chunk) for line in reader.feed(data[at : at + chunk])
    ]
    samples = [one for line in lines + reader.close() for one in parser.feed(line)]
    return samples + parser.finish()


def figures(samples: list[StepSample], rank: int) -> list[tuple[object, ...]]:
    return [(s.step, s.seconds, s.loss) for s in samples if s.rank == rank and s.seconds]


@pytest.mark.parametrize("name", ["megatron", "auto"])
def test_one_sample_a_step(name: str) -> None:
    samples = parse(name, "\n".join(RECORDS).encode())
    assert figures(samples, 0) == [
        (n, pytest.approx((500.0 + n) / 1e3), pytest.approx(9.0 - n / 10)) for n in range(1, 9)
    ]
    assert samples[0].extra["global_batch_size"] == 16.0


NOISE = st.sampled_from(
    [
        "[rank3]: some words",
        "[rank3]:{'loss': 1.0, 'grad_norm': 2.0}",
        "7: 100%|█████| 5/5 [00:01<00:00, 4.00it/s]",
        "[default9]: iteration       77/     100 | elapsed time per iteration (ms): 9.0 | "
        "lm loss: 1.0 | number of nan iterations:   0 |",
        "\x1b[31m\x1b[0m",
        "\x00\x00",
        "a\rb",
        "\ufffd caf\u00e9",
        "Traceback (most recent call last):",
        "x" * 5000,
        "time (ms) | forward: 1.0 | backward: 2.0",
    ]
)
GARBAGE = st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b""))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), NOISE), max_size=25),
    st.lists(st.tuples(st.integers(0, 8), GARBAGE), max_size=6),
    st.integers(1, 4096),
    st.sampled_from(["megatron", "auto"]),
)
def test_other_ranks_and_garbage_never_change_the_scoring_rank(
    noise: list[tuple[int, str]], garbage: list[tuple[int, bytes]], chunk: int, name: str
) -> None:
    clean = [f"[default5]:{record}".encode() for record in RECORDS]
    lines: list[bytes] = []
    for place in range(9):
        lines += [text.encode() for at, text in noise if at == place]
        lines += [b"\xff# " + data for at, data in garbage if at == place]
        lines += clean[place : place + 1]
    wanted = figures(parse(name, b"\n".join(clean)), 5)
    assert len(wanted) == 8
    assert figures(parse(name, b"\n".join(lines), chunk), 5) == wanted


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.text(max_size=300), st.integers(1, 64))
def test_nothing_raises(data: bytes, text: str, chunk: int) -> None:
    parse("auto", data, chunk)
    parser, evidence, tally = Parser(get_format("auto")), EvidenceCollector(), SampleTally()
    for line in (text, text + "\ud800", "iteration 1/2 | " + text, "error " + text):
        evidence.feed(line)
        for sample in parser.feed(line):
            tally.feed(sample)
    for sample in parser.finish():
        tally.feed(sample)
    diagnose(None, evidence, tally)


REPEATED = ["a", " ", "1 ", "1,", "step ", "loss: ", "%|", "1%|", "error ", "memory ", "mem "]
REPEATED += ["out of memory ", "nan ", "/", "1/1 ", "a.b.", "a_b-", "_", "x=1,", "Epoch 0: ", "[["]
REPEATED += ["iteration 1/1 | ", "((", "avoid ", "can run ", "connection ", "exit with ", "nccl "]


@pytest.mark.timeout(60)
def test_no_pattern_runs_away() -> None:
    """A pattern that backtracks exponentially would never come back from one of these."""
    for piece in REPEATED:
        for start in ("", "step 1 loss 2 ", "[ "):
            line = (start + piece * 5000)[:20_000]
            Parser(get_format("auto")).feed(line)
            EvidenceCollector().feed(line)


def test_shapes_are_cut_where_the_patterns_stand() -> None:
    """A line whose shape was seen gives what a parser that never saw it gives."""
    lines = [
        f"[rank{n % 8}]:iter {n}: loss {n / 7:.4f}, time {n * 1.5:.2f}ms, mfu {n % 90}.00%"
        for n in range(1, 300)
    ]
    seasoned = Parser(get_format("auto"))
    for line in lines:
        assert seasoned.feed(line) == Parser(get_format("auto")).feed(line)


def test_no_format_pattern_looks_for_a_digit_in_particular() -> None:
    """The cache by shape rests on it: patterns may ask for digits, never for which."""
    allowed = {"E2E latency", r"0?\.\d+"}
    for name in known_formats():
        for one in get_format(name).members or (get_format(name),):
            for pattern in one.patterns:
                text = re.sub(r"\{\d*,?\d*\}", "", pattern.regex)
                for known in allowed:
                    text = text.replace(known, "")
                assert not re.search(r"\d", text), (name, pattern.regex)


def test_state_stays_bounded() -> None:
    parser = Parser(get_format("auto"))
    for n in range(20_000):
        parser.feed(f"host{n} word{'y' * (n % 977)} {n} seen", rank=n)
        parser.feed(RECORDS[0].replace(" | number of nan iterations:   0 |", ""), rank=n)
    for table in parser._tables:
        assert len(table.held) <= 4096 and len(table.last_step) <= 4096
    assert len(parser.plans) <= 4096


def test_contradiction_is_noted_and_unit_put_right() -> None:
    line = RECORDS[0].replace("| loss scale", "| samples per second: 99.0 | loss scale")
    parser = Parser(get_format("megatron"))
    (sample,) = parser.feed(line)
    assert sample.seconds == pytest.approx(0.501) and sample.samples_per_s == 99.0
    assert "99 samples/s" in parser.notes[0] and "step time is believed" in parser.notes[0]
    (sample,) = parser.feed(line.replace("99.0", "0.0319"))
    assert sample.samples_per_s == pytest.approx(31.9)
    assert "per millisecond" in parser.notes[1]


def test_skipped_step_is_marked() -> None:
    line = RECORDS[0].replace("skipped iterations:   0", "skipped iterations:   1")
    (sample,) = Parser(get_format("megatron")).feed(re.sub(r"lm loss: \S+ \| ", "", line))
    assert sample.skipped and sample.loss is None and sample.seconds == pytest.approx(0.501)


def test_user_pattern_sees_the_line_as_it_stands() -> None:
    parser = Parser(
        format_from_metric({"pattern": r"^(?P<step>\d+): .*rate (?P<tokens_per_s>\S+)"})
    )
    samples = [one for n in range(3) for one in parser.feed(f"{n}: rate 1,2{n}0.5K foo")]
    assert [(s.step, s.tokens_per_s, s.rank) for s in samples] == [
        (0, 1_200_500.0, 0),
        (1, 1_210_500.0, 0),
        (2, 1_220_500.0, 0),
    ]


def test_user_pattern_units_and_extra() -> None:
    pattern = r"t=(?P<step_time_ms>\S+) m=(?P<memory_mb>\S+) q=(?P<quality>\S+) l=(?P<loss>\S+)"
    (sample,) = Parser(format_from_metric({"pattern": pattern})).feed("t=250 m=2048 q=7 l=nan")
    assert (sample.seconds, sample.memory_gib, sample.extra) == (0.25, 2.0, {"quality": 7.0})
    assert sample.loss is not None and sample.loss != sample.loss
    assert sample.step is None


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ({"pattern": "(?P<x>["}, "no regular expression"),
        ({"pattern": "tokens: (.*)"}, "names no group"),
        ({"pattern": "(?P<x>y)" * 500}, "at most 2000"),
        ({"format": "megatrom"}, "Did you mean 'megatron'"),
        ({"patern": "x"}, "unknown key 'patern'"),
        ({}, "0 keys"),
        ({"pattern": "(?P<x>y)", "format": "hf"}, "2 keys"),
    ],
)
def test_bad_metric_is_refused(metric: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        format_from_metric(metric)


def test_every_format_is_known_by_name() -> None:
    assert {"auto", "megatron", "deepspeed", "hf", "torchtitan", "nemo"} <= set(known_formats())
    for name in known_formats():
        assert get_format(name).patterns or get_format(name).members


ORIGINS = {
    "(RayTrainWorker pid=4242, ip=10.0.0.17) [rank3]: step 1": 3,
    "(main pid=77) step 1": None,
    "[pod/job-worker-0/pytorch] [default11]:step 1": 11,
    "2026-01-02T10:00:00.123456789Z 7: step 1": 7,
    "Jan  2 10:00:00 gpu-7 train[4242]: step 1": None,
    "job-worker-2 | step 1": 2,
}


@pytest.mark.parametrize("line", ORIGINS)
def test_what_stands_before_a_line_is_left_out(line: str) -> None:
    span, start = find_rank(line)
    assert line[start:] == "step 1"
    assert (None if span is None else int(line[slice(*span)])) == ORIGINS[line]
