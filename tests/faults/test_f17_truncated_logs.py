"""F17: a log cut off anywhere is incomplete, unless enough measured steps stand before the cut."""

from __future__ import annotations

from autotune.logs import EvidenceCollector, LogReader, Parser, SampleTally, diagnose, get_format
from autotune.trial import GangStatus, Outcome, RankExit

LINES = "".join(
    f" [2026-11-23 10:00:{step:02d}] iteration {step:8d}/      12 "
    f"| consumed samples: {step * 128:12d} "
    f"| elapsed time per iteration (ms): {51000 + step}.5 | learning rate: 1.0E-05 "
    f"| global batch size:   128 | lm loss: {10 / step:.6E} | loss scale: 1.0 |\n"
    for step in range(1, 13)
).encode()
MIN_STEPS = 5


def verdict(log: bytes, code: int) -> tuple[Outcome, int]:
    """What becomes of a run that left this log and this exit code."""
    reader, parser = LogReader(), Parser(get_format("megatron"))
    evidence, tally = EvidenceCollector(), SampleTally()
    for line in [*reader.feed(log), *reader.close()]:
        evidence.feed(line)
        for sample in parser.feed(line):
            tally.feed(sample)
    for sample in parser.finish():
        tally.feed(sample)
    status = GangStatus("exited", (RankExit(0, code),))
    found = diagnose(status, evidence, tally, min_steps=MIN_STEPS, total_steps=12)
    return found.outcome, tally.measured


def test_f17_cut_at_every_place() -> None:
    for cut in range(0, len(LINES), 13):
        outcome, measured = verdict(LINES[:cut], 0)
        assert (outcome is Outcome.OK) == (measured >= MIN_STEPS), f"cut at {cut}: {outcome}"
        assert outcome in (Outcome.OK, Outcome.INCOMPLETE)


def test_f17_a_cut_log_of_a_failed_run_is_never_ok() -> None:
    for cut in range(0, len(LINES), 97):
        assert verdict(LINES[:cut], 1)[0] is not Outcome.OK
