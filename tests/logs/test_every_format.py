"""What stands around a rank's lines never changes its figures, whatever format they have."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.logs import LogReader, Parser, get_format
from autotune.trial import StepSample

LINES = {
    "megatron": " iteration {n:8d}/     100 | elapsed time per iteration (ms): 50{n}.0 | lm loss: "
    "{n}.5E+00 | number of skipped iterations:   0 | number of nan iterations:   0 |",
    "deepspeed": "steps: {n} loss: {n}.5000 iter time (s): 0.50{n} samples/sec: 1.5",
    "nemo": "Training epoch 0, iteration {n}/99 | global_step: {n} | reduced_train_loss: {n}.5 | "
    "train_step_timing in s: 0.50{n}",
    "torchtitan": "\x1b[31mstep: {n:2d}  \x1b[32mloss:  {n}.5  \x1b[33mmemory: 40.94GiB(50.0%)  "
    "\x1b[34mtps: 5,01{n}\x1b[39m",
    "nanotron": "iteration: {n} / 100 | consumed_tokens: 31.5M | time_per_iteration_ms: 50{n} | "
    "lm_loss: {n}.5",
    "nanogpt": "iter {n}: loss {n}.5000, time 50{n}.00ms, mfu 20.00%",
    "hf": " {n}%|█▏  | {n}/100 [00:0{n}<00:48,  2.0{n}it/s]",
    "tqdm": "train:  {n}%|█▏  | {n}/100 [00:0{n}<00:48,  2.0{n}s/it, loss={n}.5]",
    "torchtune": "1|{n}|Loss: {n}.5:   1%|▎  | {n}/100 [00:0{n}<00:48,  2.0{n}s/it]",
    "maxtext": "completed step: {n}, seconds: 0.50{n}, TFLOP/s/device: 90.1, loss: {n}.5",
    "fairseq": '{{"epoch": 1, "loss": "{n}.5", "wps": "410{n}.5", "num_updates": "{n}", '
    '"lr": "1"}}',
    "sft": "step {n}/9 | loss {n}.5 | step_time_s 0.50{n} | tokens 512 | tokens_per_s 1024.0 | "
    "memory_gib 1.5",
    "generic": "step {n} loss {n}.5 step time 0.50{n} s",
}
STEPS = range(1, 7)
NOISE = [
    b"[rank3]: some words",
    b"\x1b[31m\x1b[0m",
    b"\x00\x00",
    b"a\rb",
    b"\xff\xfe caf\xc3",
    b"Traceback (most recent call last):",
    b"x" * 70_000,
    b"time (ms) | forward: 1.0 | backward: 2.0",
]


def told(name: str, data: bytes, chunk: int) -> list[tuple[object, ...]]:
    reader, parser = LogReader(), Parser(get_format(name))
    pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    lines = [line for piece in pieces for line in reader.feed(piece)] + reader.close()
    samples: list[StepSample] = [one for line in lines for one in parser.feed(line)]
    samples += parser.finish()
    return [
        (s.step, s.seconds, s.loss, s.tokens_per_s, s.tokens_per_s_per_gpu, s.memory_gib)
        for s in samples
        if s.rank == 5
    ]


@pytest.mark.parametrize("name", LINES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_noise_and_other_ranks_change_nothing(name: str, data: st.DataObject) -> None:
    records = [f"[default5]:{LINES[name].format(n=n)}".encode() for n in STEPS]
    other = f"[default9]:{LINES[name].format(n=7)}".encode()
    around = st.lists(st.sampled_from([*NOISE, other]), max_size=3)
    lines = [line for record in records for line in (*data.draw(around), record)]
    lines += data.draw(around)
    end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    chunk = data.draw(st.integers(7, 5000) | st.just(1 << 20))
    assert told(name, end.join(lines), chunk) == told(name, b"\n".join(records), 1 << 20)


@pytest.mark.parametrize("name", LINES)
def test_every_step_is_told_with_its_figures(name: str) -> None:
    text = "".join(f"[rank5]: {LINES[name].format(n=n)}\n" for n in STEPS).encode()
    samples = told(name, text, 999)
    assert [one[0] for one in samples] == list(STEPS)
    assert all(any(figure is not None for figure in one[1:]) for one in samples)
    assert len(set(samples)) == len(STEPS)
    assert samples == told("auto", text, 999)


@pytest.mark.parametrize("name", LINES)
def test_an_endless_line_of_records_takes_bounded_memory(name: str) -> None:
    reader, parser = LogReader(), Parser(get_format(name))
    chunk = LINES[name].format(n=1).encode() * 300
    tracemalloc.start()
    for _ in range(60):
        for line in reader.feed(chunk):
            parser.feed(line)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000
    for line in reader.close():
        parser.feed(line)
