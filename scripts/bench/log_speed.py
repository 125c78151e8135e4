"""How fast a training log is read on one core: bytes to lines, samples and evidence.

    python scripts/bench/log_speed.py [--mb 64] [--repeat 3]

Made-up logs of several kinds, read from a trial's folder as a controller reads them: blocks,
samples of a named format (``all``) or of one that is found out (``auto``), evidence. MB are 10^6
bytes as the program printed them, without the supervisor's stamps; CPU time of this one process
is taken, since the machine is shared; the best repeat counts.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from autotune.logs import EvidenceCollector, Parser, SampleTally, Scanner, get_format
from autotune.logs.tail import TrialLogs


def megatron(n: int) -> str:
    """One Megatron record, its timers and a DeepSpeed-like chatter line."""
    ms = 4800.0 + random.random() * 50.0
    return (
        f" [2026-01-01 10:00:00] iteration {n:8d}/  100000 | consumed samples: {n * 128:12d} | "
        f"elapsed time per iteration (ms): {ms:.1f} | throughput per GPU (TFLOP/s/GPU): 412.7 | "
        f"learning rate: 1.5E-05 | global batch size:   128 | lm loss: 8.9E+00 | "
        f"loss scale: 1.0 | grad norm: 2.101 | number of skipped iterations:   0 | "
        f"number of nan iterations:   0 |\n"
    )


def mixed(n: int) -> str:
    """A realistic mixture: one record, its timers, and what libraries say in between."""
    chatter = (
        "(min, max) time across ranks (ms):\n"
        "    forward-backward ...............................: (4801.31, 4805.10)\n"
        "    optimizer ......................................: (14.00, 14.22)\n"
        "node3:4242:4300 [2] NCCL INFO Channel 00/0 : 2[2] -> 3[3] via P2P/CUMEM\n"
        "[2026-01-01 10:00:00,000] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, skipped=0\n"
        "INFO:root:fetching the next shard of the data set from the object store, 42 to go\n"
    )
    return megatron(n) + chatter


def torchtitan(n: int) -> str:
    """One coloured torchtitan line."""
    return (
        f"[rank0]:[titan] 2026-01-01 10:00:00,000 - root - INFO - \x1b[31mstep: {n:2d}  "
        "\x1b[32mloss:  8.0176  \x1b[33mmemory: 40.94GiB(50.0%)  \x1b[34mtps: 5,018  "
        "\x1b[36mtflops: 301.2  \x1b[35mmfu: 30.39%\x1b[39m\n"
    )


def noise(n: int) -> str:
    """Lines that tell nothing."""
    return f"[default3]:INFO 10:00:{n % 60:02d} worker {n} read part_{n % 4320:05d}.arrow\n"


def unique(n: int) -> str:
    """Lines of which no two have the same shape: the slow path, on purpose."""
    return f"fetched {random.getrandbits(128):x} from {random.getrandbits(64):x} into the cache\n"


def write_log(folder: Path, lines: list[str]) -> None:
    """A rank's log as its supervisor writes it: a stamp of monotonic seconds on every line."""
    (folder / "logs").mkdir(parents=True)
    stamped = (
        f"{1000 + n * 0.001:.6f}\t{line}\n" for n, line in enumerate("".join(lines).splitlines())
    )
    (folder / "logs" / "rank0.000.log").write_text("".join(stamped))


def read_all(folder: Path, log_format: str) -> tuple[float, int]:
    """CPU seconds and measured steps of one full reading."""
    parser, evidence, tally = Parser(get_format(log_format)), EvidenceCollector(), SampleTally()
    scanner = Scanner(parser, evidence)
    begun = time.process_time()
    for block in TrialLogs(folder).drain_blocks():
        for sample in scanner.feed(block):
            tally.feed(sample)
    return time.process_time() - begun, tally.measured


def main() -> None:
    """Prints MB/s by kind of log and by format."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--mb", type=float, default=16.0)
    options.add_argument("--repeat", type=int, default=3)
    given = options.parse_args()
    random.seed(0)
    kinds: dict[str, tuple[Callable[[int], str], str]] = {
        "mixed": (mixed, "megatron"),
        "megatron": (megatron, "megatron"),
        "torchtitan": (torchtitan, "torchtitan"),
        "noise": (noise, "megatron"),
        "unique": (unique, "megatron"),
    }
    print(f"{'log':<12}{'all MB/s':>10}{'auto MB/s':>11}{'lines/s':>12}{'steps':>9}")
    for name, (make, log_format) in kinds.items():
        texts = [make(n) for n in range(int(given.mb * 1e6 / len(make(0))))]
        size_mb = sum(map(len, texts)) / 1e6
        with tempfile.TemporaryDirectory() as folder:
            write_log(Path(folder), texts)
            named = min(read_all(Path(folder), log_format) for _ in range(given.repeat))
            auto = min(read_all(Path(folder), "auto") for _ in range(given.repeat))
        rates = [size_mb / seconds for seconds, _ in (named, auto)]
        lines = sum(text.count("\n") for text in texts) / named[0]
        print(f"{name:<12}{rates[0]:>10.1f}{rates[1]:>11.1f}{lines:>12.0f}{named[1]:>9}")


if __name__ == "__main__":
    main()
