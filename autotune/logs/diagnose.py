"""Names the outcome of a run from how it ended, what its log proves and what was measured.

GangStatus (exits, signals, deadline, kernel kills) --.
EvidenceCollector (lines) ------------------------------> diagnose -> Diagnosis
SampleTally (measured steps, plausibility) ------------'
"""

from __future__ import annotations

import signal

from autotune.logs.evidence import EvidenceCollector, Finding, to_diagnosis
from autotune.logs.failures import AFTERMATH
from autotune.logs.tally import SampleTally
from autotune.trial import Diagnosis, GangStatus, Outcome, RankExit

__all__ = ["SampleTally", "diagnose"]

_ABORTS = (signal.SIGABRT, signal.SIGSEGV)


def diagnose(
    status: GangStatus | None,
    evidence: EvidenceCollector,
    tally: SampleTally,
    *,
    min_steps: int = 1,
    total_steps: int | None = None,
    hung: bool = False,
    stopped_early: bool = False,
    ended_at_s: float | None = None,
) -> Diagnosis:
    """What became of a run whose log was read to its end.

    ``status`` is what the launcher knows (None: only a log file is at hand). ``hung`` says that
    the controller's no-progress timer ended it, ``stopped_early`` that it was ended on purpose
    with enough steps, ``ended_at_s`` when (monotonic seconds): what other ranks cry after that
    is our doing. ``total_steps`` is the number of steps of a full run, where known.
    """
    ours = hung or stopped_early or (status is not None and status.cancelled)
    ours = ours or (status is not None and status.deadline_hit)
    found = _decisive(evidence, tally, ended_at_s, ours)
    if status is None:
        return _judge_file(found, tally, min_steps)
    full = total_steps is not None and (tally.last_step or 0) >= total_steps
    bad = [one for one in status.exits if one.code != 0]
    clean = bool(status.exits) and not bad
    if found is not None and found.kind not in AFTERMATH and not (clean and full and _mild(found)):
        return to_diagnosis(found)
    ended = _how_it_ended(status, hung, stopped_early)
    if ended is not None:
        return ended
    if not stopped_early and not clean:
        return _judge_exit(bad, found or _buried(evidence, bad), tally, min_steps, full)
    if found is not None and (stopped_early or (found.kind == "crash" and not full)):
        return to_diagnosis(found)
    return _judge_figures(tally, min_steps)


def _mild(found: Finding) -> bool:
    """Whether a run that took all its steps and exited with 0 may still count."""
    return found.kind not in ("oom_gpu", "gpu_hw", "nan")


def _judge_file(found: Finding | None, tally: SampleTally, min_steps: int) -> Diagnosis:
    """A log file alone: a shell's bare ``Killed`` is most likely the host's memory killer."""
    if found is None:
        return _judge_figures(tally, min_steps)
    verdict = to_diagnosis(found)
    if found.kind == "killed":
        reason = f"most likely the host's memory killer: {verdict.evidence[0]}"
        return Diagnosis(Outcome.OOM_HOST, reason, verdict.evidence)
    return verdict


def _decisive(
    evidence: EvidenceCollector, tally: SampleTally, ended_at_s: float | None, ours: bool
) -> Finding | None:
    found = evidence.decisive(tally)
    if found is None or found.kind not in AFTERMATH or not ours:
        return found
    before = ended_at_s is not None and found.told()[0][0] < ended_at_s
    return found if before else None


def _buried(evidence: EvidenceCollector, bad: list[RankExit]) -> Finding | None:
    """A traceback that steps follow, of a program that ended by an error of its own.

    What it still held of its standard output comes after the traceback, and looks as if it had
    gone on.
    """
    ended_itself = bool(bad) and all(one.code is not None and one.code < 128 for one in bad)
    return evidence.decisive() if ended_itself and "died" in evidence.findings else None


def _how_it_ended(status: GangStatus, hung: bool, stopped_early: bool) -> Diagnosis | None:
    if status.oom_kill:
        return Diagnosis(Outcome.OOM_HOST, "the kernel killed it for host memory (oom_kill)")
    if hung:
        return Diagnosis(Outcome.HANG, "no progress until the hang timer ran out")
    if status.deadline_hit:
        return Diagnosis(Outcome.TIMEOUT, "ended at its time limit")
    if status.cancelled and not stopped_early:
        return Diagnosis(Outcome.CANCELLED, "cancelled")
    if status.state == "lost":
        detail = status.detail or "node or supervisor vanished without an exit record"
        return Diagnosis(Outcome.INFRA, detail)
    return None


def _judge_exit(
    bad: list[RankExit],
    found: Finding | None,
    tally: SampleTally,
    min_steps: int,
    full: bool,
) -> Diagnosis:
    said = _describe(bad[0]) if bad else "no exit status was recorded"
    aborted = bool(bad) and all(_is_abort(one) for one in bad)
    if full and aborted:
        verdict = _judge_figures(tally, min_steps)
        return Diagnosis(verdict.outcome, f"{verdict.reason}; {said} after its last step")
    if found is not None:
        verdict = to_diagnosis(found)
        return Diagnosis(verdict.outcome, f"{verdict.reason} ({said})", verdict.evidence)
    if not bad:
        return Diagnosis(Outcome.INCOMPLETE, said)
    if all(one.signal == signal.SIGTERM or one.code == 143 for one in bad):
        return Diagnosis(Outcome.INFRA, f"{said}, which we did not send")
    return Diagnosis(Outcome.CRASH, f"{said}, cause unknown")


def _judge_figures(tally: SampleTally, min_steps: int) -> Diagnosis:
    if tally.nan_losses:
        return Diagnosis(Outcome.NAN_LOSS, f"the last {tally.nan_losses} losses are not finite")
    if tally.measured < min_steps:
        reason = f"{tally.measured} measured steps, {min_steps} needed"
        return Diagnosis(Outcome.INCOMPLETE, reason)
    if tally.implausible:
        return Diagnosis(Outcome.INCOMPLETE, f"implausible figures: {tally.implausible[0]}")
    return Diagnosis(Outcome.OK, f"{tally.measured} measured steps")


def _is_abort(one: RankExit) -> bool:
    return one.signal in _ABORTS or one.code in tuple(128 + int(s) for s in _ABORTS)


def _describe(one: RankExit) -> str:
    if one.signal is not None:
        try:
            name = signal.Signals(one.signal).name
        except ValueError:
            name = f"signal {one.signal}"
        return f"rank {one.rank} was ended by {name}"
    return f"rank {one.rank} exited with {one.code}"
