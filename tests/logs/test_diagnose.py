"""How a run ended, what its log proves and what was measured give the right outcome."""

from __future__ import annotations

import re
import signal

import pytest

from autotune.logs import EvidenceCollector, SampleTally, diagnose
from autotune.logs.failures import KINDS
from autotune.logs.rows import ROWS
from autotune.trial import Diagnosis, GangStatus, Outcome, RankExit, StepSample

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"
DONE = GangStatus("exited", (RankExit(0, 0), RankExit(1, 0)))


def died(code: int | None = 1, killed_by: int | None = None) -> GangStatus:
    return GangStatus("exited", (RankExit(0, code, killed_by), RankExit(1, 0)))


def judge(
    status: GangStatus | None,
    steps: int = 10,
    lines: tuple[tuple[float, str], ...] = (),
    tally: SampleTally | None = None,
    **options: object,
) -> Diagnosis:
    evidence = EvidenceCollector()
    for arrival_s, line in lines:
        evidence.feed(line, 0, arrival_s)
    if tally is None:
        tally = SampleTally()
        for n in range(1, steps + 1):
            tally.feed(StepSample(step=n, seconds=0.5, loss=2.0, arrival_s=float(n)))
    return diagnose(status, evidence, tally, **{"min_steps": 5, **options})  # type: ignore[arg-type]


def test_clean_run_is_ok() -> None:
    assert judge(DONE).outcome is Outcome.OK


def test_exit_zero_without_enough_steps_is_incomplete() -> None:
    verdict = judge(DONE, steps=3)
    assert verdict.outcome is Outcome.INCOMPLETE and "3 measured steps" in verdict.reason


def test_figures_then_death_is_no_winner() -> None:
    verdict = judge(died(1))
    assert verdict.outcome is Outcome.CRASH and "exited with 1" in verdict.reason


@pytest.mark.parametrize("status", [DONE, died(1), died(None, signal.SIGKILL), None])
def test_oom_line_counts_whatever_the_exit_code(status: GangStatus | None) -> None:
    verdict = judge(status, lines=((10.5, OOM),))
    assert verdict.outcome is Outcome.OOM_GPU and OOM in verdict.evidence


def test_caught_oom_is_forgiven() -> None:
    assert judge(DONE, lines=((3.5, OOM),)).outcome is Outcome.OK
    assert judge(died(1), lines=((3.5, OOM),)).outcome is Outcome.CRASH


def test_steps_flushed_after_the_traceback_do_not_hide_the_cause() -> None:
    raised = ((3.4, "Traceback (most recent call last):"), (3.5, OOM))
    assert judge(died(1), lines=raised).outcome is Outcome.OOM_GPU
    assert judge(died(None, signal.SIGKILL), lines=raised).outcome is Outcome.CRASH
    assert judge(DONE, lines=raised).outcome is Outcome.OK


def test_one_last_line_of_another_rank_does_not_forgive_an_oom() -> None:
    assert judge(died(1), lines=((9.5, OOM),)).outcome is Outcome.OOM_GPU


def test_oom_of_one_rank_while_others_hang_is_said_at_once() -> None:
    evidence = EvidenceCollector()
    assert evidence.fatal() is None
    evidence.feed(f"[rank3]: {OOM}", 3, 20.0)
    verdict = evidence.fatal()
    assert verdict is not None and verdict.outcome is Outcome.OOM_GPU
    assert "rank 3" in verdict.reason
    cancelled = GangStatus("exited", (RankExit(0, None, 15),), cancelled=True)
    assert judge(cancelled, lines=((20.0, OOM),)).outcome is Outcome.OOM_GPU


def test_an_oom_that_may_have_been_caught_is_given_time() -> None:
    evidence = EvidenceCollector()
    evidence.feed(f"caught, retrying with half the batch: {OOM}", 0, 20.0)
    assert evidence.fatal() is None and evidence.fatal(now_s=25.0) is None
    verdict = evidence.fatal(now_s=31.0)
    assert verdict is not None and verdict.outcome is Outcome.OOM_GPU


def test_nccl_cries_are_not_fatal_before_the_exit() -> None:
    evidence = EvidenceCollector()
    evidence.feed("Watchdog caught collective operation timeout: WorkNCCL(OpType=ALLREDUCE)")
    assert evidence.fatal() is None
    assert judge(died(1), lines=((11.0, "NCCL error: unhandled system error"),)).outcome is (
        Outcome.INFRA
    )


def test_what_came_first_is_the_cause() -> None:
    """A rank's exception makes the others cry NCCL; a scancel makes all of them cry."""
    key, nccl = "KeyError: 'input_ids'", "NCCL error: unhandled system error"
    assert judge(died(1), lines=((11.0, key), (12.0, nccl))).outcome is Outcome.CRASH
    assert judge(died(1), lines=((11.0, nccl), (12.0, key))).outcome is Outcome.INFRA
    scancel = "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2024-03-06T03:17:51 ***"
    assert judge(died(1), lines=((11.0, key), (12.0, scancel))).outcome is Outcome.CRASH
    assert judge(died(1), lines=((11.0, scancel), (12.0, key))).outcome is Outcome.INFRA


def test_a_survived_complaint_is_not_the_cause() -> None:
    """An early exception that the run got over does not outrank what ended it."""
    lines = ((2.5, "ConnectionError: api.wandb.ai"), (11.0, "KeyError: 'x'"))
    verdict = judge(died(1), lines=lines)
    assert verdict.outcome is Outcome.CRASH and verdict.evidence == ("KeyError: 'x'",)


def test_exit_zero_after_an_exception() -> None:
    boom = ((11.0, "RuntimeError: boom"),)
    assert judge(DONE, lines=boom).outcome is Outcome.CRASH
    assert judge(DONE, lines=boom, total_steps=10).outcome is Outcome.OK
    lost = ((11.0, "FileNotFoundError: [Errno 2] No such file or directory: 'plot.png'"),)
    assert judge(DONE, lines=lost).outcome is Outcome.USER_ERROR
    assert judge(DONE, lines=lost, total_steps=10).outcome is Outcome.OK
    assert judge(DONE, lines=((11.0, OOM),), total_steps=10).outcome is Outcome.OOM_GPU


def test_bare_sigkill_is_no_host_oom() -> None:
    verdict = judge(died(None, signal.SIGKILL))
    assert verdict.outcome is Outcome.CRASH and "SIGKILL" in verdict.reason
    assert judge(died(137)).outcome is Outcome.CRASH


def test_sigkill_with_proof_is_host_oom() -> None:
    kernel = "slurmstepd: error: Detected 1 oom_kill event in StepId=71.0"
    assert judge(died(137), lines=((11.0, kernel),)).outcome is Outcome.OOM_HOST
    counted = GangStatus("exited", (RankExit(0, None, 9),), oom_kill=True)
    assert judge(counted).outcome is Outcome.OOM_HOST


def test_hang_deadline_cancel_and_loss() -> None:
    ended = GangStatus("exited", (RankExit(0, None, 15),))
    assert judge(ended, hung=True).outcome is Outcome.HANG
    late = GangStatus("exited", (RankExit(0, None, 9),), deadline_hit=True)
    assert judge(late).outcome is Outcome.TIMEOUT
    stopped = GangStatus("exited", (RankExit(0, None, 15),), cancelled=True)
    assert judge(stopped).outcome is Outcome.CANCELLED
    assert judge(GangStatus("lost", detail="node n2 is gone")).outcome is Outcome.INFRA
    assert judge(ended).outcome is Outcome.INFRA


def test_what_ranks_cry_after_our_own_ending_is_not_held_against_them() -> None:
    cry = (12.0, "RuntimeError: NCCL communicator was aborted on rank 1. KeyboardInterrupt")
    stopped = GangStatus("exited", (RankExit(0, None, 15),), cancelled=True)
    assert judge(stopped, lines=(cry,), stopped_early=True, ended_at_s=11.0).outcome is Outcome.OK
    early = (10.5, cry[1])
    assert (
        judge(stopped, lines=(early,), stopped_early=True, ended_at_s=11.0).outcome is Outcome.INFRA
    )


def test_early_stop_with_failure_evidence_is_no_measurement() -> None:
    stopped = GangStatus("exited", (RankExit(0, None, 15),), cancelled=True)
    verdict = judge(stopped, lines=((10.5, OOM),), stopped_early=True, ended_at_s=11.0)
    assert verdict.outcome is Outcome.OOM_GPU


def test_abort_after_a_full_run_counts_with_a_note() -> None:
    aborted = GangStatus("exited", (RankExit(0, None, signal.SIGABRT), RankExit(1, 0)))
    verdict = judge(aborted, total_steps=10)
    assert verdict.outcome is Outcome.OK and "SIGABRT after its last step" in verdict.reason
    assert judge(aborted, total_steps=20).outcome is Outcome.CRASH
    assert judge(died(1), total_steps=10).outcome is Outcome.CRASH


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (StepSample(seconds=0.5, mfu=1.4), "MFU of 140%"),
        (StepSample(seconds=0.5, tokens_per_s=0.0), "tokens_per_s of 0"),
        (StepSample(seconds=0.5, tokens=0.0), "tokens of 0"),
        (StepSample(seconds=0.0), "seconds of 0"),
        (StepSample(tokens_per_s=-5.0), "tokens_per_s of -5"),
        (StepSample(tokens_per_s=float("inf")), "tokens_per_s of inf"),
    ],
)
def test_implausible_figures_never_win(sample: StepSample, said: str) -> None:
    tally = SampleTally()
    for _ in range(10):
        tally.feed(sample)
    verdict = judge(DONE, tally=tally)
    assert verdict.outcome is Outcome.INCOMPLETE and said in verdict.reason


def test_loss_that_ends_in_nan() -> None:
    tally = SampleTally()
    for n in range(10):
        tally.feed(StepSample(step=n, seconds=0.5, loss=2.0 if n < 7 else float("nan")))
    assert judge(DONE, tally=tally).outcome is Outcome.NAN_LOSS


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (
            "AssertionError: number of layers should be divisible by the pipeline parallel size",
            {"num_layers", "pipeline_model_parallel_size"},
        ),
        (
            "AssertionError: global batch size (100) is not divisible by micro batch size (8) "
            "times data parallel size (4)",
            {"global_batch_size", "micro_batch_size", "data_parallel_size"},
        ),
        (
            "train.py: error: argument --recompute-granularity: invalid choice: 'half'",
            {"recompute_granularity"},
        ),
        (
            "ValueError: num_attention_heads (12) must be a multiple of tensor_parallel (8)",
            {"num_attention_heads", "tensor_model_parallel_size"},
        ),
    ],
)
def test_refused_configuration_names_its_parameters(line: str, named: set[str]) -> None:
    verdict = judge(died(1), steps=0, lines=((1.0, line),))
    assert verdict.outcome is Outcome.INVALID_CONFIG
    assert named <= set(verdict.parameters)


def test_bare_assertion_reads_the_line_above() -> None:
    lines = (
        (1.0, "Traceback (most recent call last):"),
        (1.0, "    assert args.hidden_size % args.num_attention_heads == 0"),
        (1.0, "           ^^^^^^^^^^^^^^^^"),
        (1.0, "AssertionError"),
    )
    verdict = judge(died(1), steps=0, lines=lines)
    assert verdict.outcome is Outcome.INVALID_CONFIG
    assert set(verdict.parameters) == {"hidden_size", "num_attention_heads"}


def test_evidence_stays_bounded() -> None:
    evidence = EvidenceCollector()
    for n in range(20_000):
        evidence.feed(f"RuntimeError: word{'q' * (n % 700)} {n} failed", n, float(n))
    (found,) = evidence.findings.values()
    assert found.count == 20_000 and len(found.told()) <= 8 and len(found.ranks) <= 4096
    assert len(evidence._harmless) <= 4096 and len(evidence._previous) <= 4096


def test_table_is_consistent() -> None:
    for row in ROWS:
        text = row.needle + re.sub(r"\\[SWDB]", "", row.regex)
        assert text == text.lower(), row
        assert row.kind is None or row.kind in KINDS
