"""Turns a gang that ended into the trial's record: its outcome, its figures, its cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timezone

from autotune.controller.setting import Setting
from autotune.controller.standing import parity_note
from autotune.controller.watch import Watch
from autotune.logs import RunFacts, diagnose
from autotune.trial import Diagnosis, Interval, Measurement, Outcome, TrialRecord

PARITY_TOLERANCE = 0.05


def now() -> str:
    """The wall clock, for people: UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def judge(setting: Setting, watch: Watch, earlier: Sequence[TrialRecord]) -> TrialRecord:
    """The finished record of a watched trial."""
    measurement = watch.steady.measurement(watch.status.peak_memory_gib)
    diagnosis = _diagnosis(setting, watch, measurement)
    if measurement is not None:
        measurement = complete(setting, measurement, watch, earlier)
    ok = diagnosis.outcome is Outcome.OK
    seconds = watch.seconds * watch.job.time_compression
    gpus = max(1, watch.job.nodes * watch.job.gpus_per_node)
    return dataclasses.replace(
        watch.record,
        outcome=diagnosis.outcome,
        outcome_reason=diagnosis.reason,
        evidence=diagnosis.evidence,
        parameters_named=diagnosis.parameters,
        measurement=measurement,
        seconds=seconds,
        gpu_seconds=seconds * gpus,
        ended_at=now(),
        nodes=watch.status.nodes,
        attempt=watch.intent.attempt,
        ran_to_end=ok and not watch.ending,
        simulated=setting.options.simulated,
    )


def _diagnosis(setting: Setting, watch: Watch, measurement: Measurement | None) -> Diagnosis:
    if watch.ending == "cancel":
        return Diagnosis(Outcome.CANCELLED, watch.ending_reason)
    facts = RunFacts(
        exits=watch.status.exits,
        lost=watch.status.state == "lost",
        deadline_hit=watch.status.deadline_hit,
        oom_kill=watch.status.oom_kill,
        cancelled=watch.status.cancelled and not watch.ending,
        hang=watch.ending_reason if watch.ending == "hang" else "",
        stopped_early=watch.ending_reason if watch.ending in ("worse", "known") else "",
        steps_measured=measurement.steps_used if measurement else 0,
        min_steps=setting.space.trial.min_steps,
        all_steps_done=watch.all_steps_done,
        mfu=measurement.mfu if measurement else None,
        detail=watch.status.detail,
    )
    found = diagnose(facts, watch.evidence)
    if watch.survivors and found.outcome is Outcome.OK:
        return dataclasses.replace(
            found, reason=f"{found.reason}; {len(watch.survivors)} processes would not die"
        )
    return found


def complete(
    setting: Setting, measurement: Measurement, watch: Watch, earlier: Sequence[TrialRecord]
) -> Measurement:
    """The measurement with the space's objective, and a note where loss parity is broken."""
    notes = list(measurement.notes)
    baseline = next(
        (r for r in earlier if r.kind == "baseline" and r.measurement and r.outcome is Outcome.OK),
        None,
    )
    if baseline is not None and baseline.measurement is not None:
        tolerance = setting.space.trial.loss_tolerance
        note = parity_note(measurement.first_losses, baseline.measurement.first_losses, tolerance)
        if note is not None and not setting.space.moves_the_loss():
            notes.append(note)
    return dataclasses.replace(
        measurement,
        objective=objective(setting, measurement),
        stopped_early=watch.ending in ("worse", "known"),
        notes=tuple(notes),
    )


def objective(setting: Setting, measurement: Measurement) -> Interval | None:
    """The figure that decides, with its interval; None when the trial did not show it."""
    metric = setting.space.objective.metric
    if metric == "tokens_per_s":
        return measurement.tokens_per_s or measurement.objective
    if metric == "step_time_s":
        return measurement.step_time_s
    single = {
        "tflops_per_gpu": measurement.tflops_per_gpu,
        "peak_memory_gib": measurement.peak_memory_gib,
    }
    if metric in single:
        value = single[metric]
        return None if value is None else Interval(value, value, value)
    return measurement.objective
