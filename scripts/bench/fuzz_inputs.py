"""Feeds broken input to everything that reads what others wrote, and counts what happened.

    python scripts/bench/fuzz_inputs.py --inputs 1000000 --json analysis/results/fuzz.json

Targets: the space loader, `--set`, constraint expressions, the log reader with parser and
evidence, result files, intents, handles, trails of array elements. Inputs are mutations of
sound ones (bytes flipped, pieces cut, doubled, swapped, odd characters put in). Only BadInput, or
ValueError from the record codec, may come out; one input may take at most a second; nothing may
be executed (a canary file is watched).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from autotune.launchers import _slurm_array, get_launcher, sound_handle  # noqa: E402
from autotune.logs import (  # noqa: E402
    EvidenceCollector,
    LogReader,
    Parser,
    SampleTally,
    Scanner,
    get_format,
)
from autotune.logs.tail import LogBlock  # noqa: E402
from autotune.study.codec import record_from_json, record_to_json  # noqa: E402
from autotune.study.intents import Intent  # noqa: E402
from autotune.trial import Interval, Measurement, Outcome, TrialRecord  # noqa: E402
from tests.space.fuzz_targets import fuzz_expression, fuzz_loader, fuzz_override  # noqa: E402

SLOW_S = 1.0
CANARY = Path("/tmp/autotune-fuzz-canary")
SPACE = """
name: fuzz
framework: command
command: ["python3", "train.py", "{batch}", "{compile}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters:
  batch: {values: [1, 2, 4]}
  compile: {values: [false, true], when: "batch > 1"}
constraints: ["not (compile and batch == 4)"]
baseline: {batch: 1}
trial: {min_steps: 3, time_limit_s: 60}
"""
EXPRESSIONS = [
    "a * b <= 4 and not (s == 'full')",
    "a in [1, 2, 3] or s is None",
    "1 <= min(a, 3) % 2 < max(2, a) ** 2",
    "__import__('os').system('touch /tmp/autotune-fuzz-canary')",
    "(lambda: 0)()",
]
LOG = (
    b" [2026-11-23 10:00:01] iteration        1/      12 | consumed samples:          128 | "
    b"elapsed time per iteration (ms): 51001.5 | lm loss: 1.000000E+01 | nan iterations: 0 |\n"
    b"\x1b[32m[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\x1b[0m\r"
    b"{'loss': 2.5, 'grad_norm': 1.0, 'learning_rate': 1e-05, 'epoch': 0.1}\n"
    b"step: 5  loss: 5.6  memory: 10.1GiB(12%)  tps: 5,762  tflops: 300.1  mfu: 30.4%\n"
    b"Epoch 0: |  | 3/? [00:03<00:00, reduced_train_loss=11.0, train_step_timing in s=7.7]\r"
)
RECORD = record_to_json(
    TrialRecord(
        3,
        {"batch": 2},
        "hash",
        outcome=Outcome.OK,
        measurement=Measurement(Interval(1.0, 0.9, 1.1), objective=Interval(5.0, 4.0, 6.0)),
    )
)
HANDLE = {
    "launcher": "local", "pid": 1, "start_time": 1, "boot_id": "x", "host": "h", "token": "t",
    "trial_dir": "/nonexistent", "started_at": 1.0,
}  # fmt: skip
TRAILS = ('{"token": "t", "name": "autotune-t", "index": 3}', "t 4711")
ODD = ["\x00", "\ud800", "é", "&a *a", "!!python/object/apply:os.system ['touch x']", "9" * 40]
ODD += ["{", "}", "[", ":", "\n", "\t", "- ", "None", "1e999", "<<: *x", "'", '"', "\\"]


def mutate(text: str, draw: random.Random) -> str:
    """A text with one to four small damages."""
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(text) + 1)
        end = min(len(text), at + draw.randint(1, 12))
        kind = draw.randrange(5)
        if kind == 0:
            text = text[:at] + text[end:]
        elif kind == 1:
            text = text[:at] + draw.choice(ODD) + text[at:]
        elif kind == 2:
            text = text[:at] + text[at:end] * draw.randint(2, 9) + text[end:]
        elif kind == 3:
            text = text[:at] + chr(draw.randrange(1, 0x250)) + text[at + 1 :]
        else:
            other = draw.randrange(len(text) + 1)
            text = text[:at] + text[other : other + 12] + text[end:]
    return text


def read_log(text: str) -> None:
    """A log through reader, parser, evidence and tally; and as one block of a trial's file."""
    reader, parser = LogReader(), Parser(get_format("auto"))
    evidence, tally = EvidenceCollector(), SampleTally()
    for line in [*reader.feed(encoded(text)), *reader.close()]:
        evidence.feed(line)
        for sample in parser.feed(line):
            tally.feed(sample)
    for sample in parser.finish():
        tally.feed(sample)
    evidence.fatal(tally)
    by_block = Scanner(Parser(get_format("auto")), EvidenceCollector())
    by_block.feed(LogBlock(0, encoded(text), 0.0, 0.0))


def read_record(text: str) -> None:
    """A result file and an intent row."""
    try:
        data = json.loads(text)
    except ValueError:
        return
    if isinstance(data, dict):
        try:
            record_from_json(data)
        except ValueError:
            return


def read_intent(text: str) -> None:
    """An intent row."""
    try:
        data = json.loads(text)
    except ValueError:
        return
    Intent.from_json(data)


LOCAL = get_launcher("local")


def read_handle(text: str) -> None:
    """A handle, asked for its state as a new controller does."""
    try:
        data = json.loads(text)
    except ValueError:
        return
    handle = sound_handle(data, LOCAL)
    if handle is not None:
        LOCAL.poll(handle)
        LOCAL.survivors(handle)


FOLDER = Path(tempfile.mkdtemp(prefix="autotune-fuzz-"))


def read_trail(text: str) -> None:
    """What a Slurm array leaves in a trial's folder, by which its element is found again."""
    (FOLDER / "array.json").write_bytes(encoded(text))
    (FOLDER / _slurm_array.STARTED).write_bytes(encoded(text))
    _slurm_array.trail(FOLDER, "t")
    _slurm_array.started_as(FOLDER, "t")


def targets() -> list[tuple[str, float, Callable[[random.Random], None]]]:
    """(name, share of the inputs, one try)."""
    record, handle = json.dumps(RECORD), json.dumps(HANDLE)
    intent = json.dumps(Intent("running", token="t", handle=HANDLE).to_json())
    log = LOG.decode("latin-1")
    return [
        ("expressions", 0.40, lambda d: void(fuzz_expression(mutate(d.choice(EXPRESSIONS), d)))),
        ("trails", 0.02, lambda d: read_trail(mutate(d.choice(TRAILS), d))),
        ("loader", 0.10, lambda d: void(fuzz_loader(encoded(mutate(SPACE, d))))),
        ("overrides", 0.03, lambda d: void(fuzz_override(mutate("trial.steps=5", d), SPACE))),
        ("logs", 0.20, lambda d: read_log(mutate(log, d))),
        ("results", 0.10, lambda d: read_record(mutate(record, d))),
        ("intents", 0.10, lambda d: read_intent(mutate(intent, d))),
        ("handles", 0.05, lambda d: read_handle(mutate(handle, d))),
    ]


def encoded(text: str) -> bytes:
    """Bytes of a text that may hold lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def void(_: object) -> None:
    """Drops a result."""


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    CANARY.unlink(missing_ok=True)
    counts: Counter[str] = Counter()
    crashes: list[dict[str, str]] = []
    slowest = 0.0
    for name, share, attempt in targets():
        draw = random.Random(f"{wanted.seed}-{name}")
        for _ in range(round(wanted.inputs * share)):
            begun = time.perf_counter()
            try:
                attempt(draw)
            except Exception as error:  # whatever comes out is the finding
                crashes.append({"target": name, "error": repr(error)[:300]})
            passed = time.perf_counter() - begun
            slowest = max(slowest, passed)
            counts[name] += 1
            counts["slow"] += passed > SLOW_S
    report = {
        "inputs": sum(count for name, count in counts.items() if name != "slow"),
        "by_target": {name: count for name, count in counts.items() if name != "slow"},
        "crashes": len(crashes),
        "hangs": counts["slow"],
        "slowest_s": round(slowest, 3),
        "executed": CANARY.exists(),
        "first_crashes": crashes[:10],
    }
    text = json.dumps(report, indent=1)
    if wanted.json:
        wanted.json.write_text(text + "\n")
    print(text)
    sys.exit(1 if crashes or CANARY.exists() else 0)


if __name__ == "__main__":
    main()
