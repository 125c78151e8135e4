"""Turns a gang that ended into the trial's record: its outcome, its figures, its cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timezone

from autotune.controller.setting import Setting
from autotune.controller.standing import parity_note
from autotune.controller.watch import Watch
from autotune.logs import diagnose
from autotune.search.finalists import LOSS_PARITY
from autotune.search.merit import merit
from autotune.trial import SMALLER, Diagnosis, Interval, Measurement, Outcome, TrialRecord


def now() -> str:
    """The wall clock, for people: UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def judge(setting: Setting, watch: Watch, earlier: Sequence[TrialRecord]) -> TrialRecord:
    """The finished record of a watched trial."""
    measurement = watch.steady.measurement(watch.status.peak_memory_gib)
    diagnosis = _diagnosis(setting, watch, measurement)
    if measurement is not None:
        measurement = _meaning(setting, measurement, watch, earlier)
    gpus = max(1, watch.job.nodes * watch.job.gpus_per_node)
    seconds = _seconds(watch, gpus) * watch.job.time_compression
    return dataclasses.replace(
        watch.record,
        outcome=diagnosis.outcome,
        outcome_reason=_and_parity(diagnosis, measurement),
        evidence=diagnosis.evidence,
        parameters_named=diagnosis.parameters,
        measurement=measurement,
        seconds=seconds,
        gpu_seconds=seconds * gpus,
        ended_at=now(),
        nodes=watch.status.nodes,
        gpus=watch.status.gpus,
        doubts=watch.status.doubts,
        attempt=watch.intent.attempt,
        ran_to_end=diagnosis.outcome is Outcome.OK
        and watch.ended_by_itself
        and watch.record.fidelity not in SMALLER,
        simulated=setting.options.simulated,
    )


def _seconds(watch: Watch, gpus: int) -> float:
    """How long the gang ran; of an adopted one its supervisors tell, who saw all of it."""
    told = watch.status.gpu_seconds if watch.adopted else None
    return max(watch.seconds, (told or 0.0) / gpus - watch.preparation.seconds)


def _meaning(
    setting: Setting, measurement: Measurement, watch: Watch, earlier: Sequence[TrialRecord]
) -> Measurement | None:
    """What a measurement says of the whole job; of a memory check nothing but that it ran."""
    if watch.record.fidelity not in SMALLER:
        return complete(setting, measurement, watch, earlier)
    index = setting.legal.find(watch.record.values)
    small = setting.smaller.of(setting.legal.config(index), "proxy") if index is not None else None
    if watch.record.fidelity == "check" or small is None or measurement.step_time_s.value <= 0.0:
        return None
    whole = small.correction.of(measurement)
    return dataclasses.replace(whole, stopped_early=not watch.ended_by_itself)


def _and_parity(diagnosis: Diagnosis, measurement: Measurement | None) -> str:
    """The reason of an outcome; of a good run that learns something else, that it does."""
    notes = measurement.notes if measurement is not None else ()
    broken = [note for note in notes if note.startswith(LOSS_PARITY)]
    return broken[0] if broken and diagnosis.outcome is Outcome.OK else diagnosis.reason


def _diagnosis(setting: Setting, watch: Watch, measurement: Measurement | None) -> Diagnosis:
    if watch.ending in ("cancel", "hopeless"):
        return Diagnosis(Outcome.CANCELLED, watch.ending_reason)
    found = diagnose(
        watch.status,
        watch.evidence,
        watch.tally,
        min_steps=1
        if watch.record.fidelity in ("target", "check")
        else setting.space.trial.min_steps,
        total_steps=watch.job.total_steps,
        hung=watch.ending == "hang",
        stopped_early=watch.ending in ("worse", "known")
        and (watch.status.cancelled or not watch.ended_by_itself),
        ended_at_s=watch.ended_on_purpose_at,
    )
    if found.outcome is Outcome.CANCELLED and watch.fatal is not None:
        found = watch.fatal  # another rank took steps before the gang was gone
    found = _in_our_words(setting, found, watch, measurement)
    if watch.survivors and found.outcome is Outcome.OK:
        return dataclasses.replace(
            found, reason=f"{found.reason}; {len(watch.survivors)} processes would not die"
        )
    return found


def _in_our_words(
    setting: Setting, found: Diagnosis, watch: Watch, measurement: Measurement | None
) -> Diagnosis:
    """The controller's own reason where it ended the gang, and the validity gate on MFU."""
    if found.outcome is Outcome.HANG and watch.ending == "hang":
        return dataclasses.replace(found, reason=watch.ending_reason)
    if watch.record.fidelity == "target" and _missed(found, watch, measurement):
        return Diagnosis(Outcome.INCOMPLETE, _how_far(setting, measurement))
    if found.outcome is not Outcome.OK:
        return found
    if watch.record.fidelity == "check":
        return dataclasses.replace(found, reason="a step of it fits; the whole job runs next")
    if measurement is None:
        return Diagnosis(Outcome.INCOMPLETE, "nothing in its log could be timed")
    fastest, rate = setting.fastest_tflops(), measurement.tflops_per_gpu
    if fastest is not None and rate is not None and rate > fastest:
        return Diagnosis(
            Outcome.INCOMPLETE,
            f"implausible figures: {rate:.0f} TFLOP/s on a GPU that can do {fastest:.0f} at most",
        )
    if watch.record.fidelity == "target" and measurement.objective is not None:
        return dataclasses.replace(found, reason=_reached(watch.record, measurement))
    if watch.ending in ("worse", "known") and not watch.ended_by_itself:
        return dataclasses.replace(found, reason=f"stopped early: {watch.ending_reason}")
    return found


def _missed(found: Diagnosis, watch: Watch, measurement: Measurement | None) -> bool:
    """Whether a run to the target ended as it should and had not reached it."""
    if measurement is None or measurement.objective is not None:
        return False
    said = any("target_missed" in sample.extra for sample in watch.steady.samples)
    return found.outcome is Outcome.OK or (said and found.outcome is Outcome.CRASH)


def _reached(record: TrialRecord, measurement: Measurement) -> str:
    reason = f"reached the target with seed {record.seed}"
    return reason if measurement.eval_loss is None else f"{reason}: {evaluated(measurement)}"


def _how_far(setting: Setting, measurement: Measurement | None) -> str:
    reason = f"the target loss {setting.space.objective.target:g} was not reached"
    if measurement is None or measurement.eval_loss is None:
        return reason
    return f"{reason}: {evaluated(measurement)} at the last evaluation"


def evaluated(measurement: Measurement) -> str:
    """The last evaluation in words."""
    said = f"loss {measurement.eval_loss:.4g}"
    if measurement.perplexity is not None:
        said += f", perplexity {measurement.perplexity:.4g}"
    return said


def complete(
    setting: Setting, measurement: Measurement, watch: Watch, earlier: Sequence[TrialRecord]
) -> Measurement:
    """The measurement with the space's objective, and a note where loss parity is broken."""
    parity = _parity(setting, measurement, watch.record, earlier)
    doubts = [f"doubtful: {doubt}" for doubt in watch.status.doubts]
    notes = (*measurement.notes, *([parity] if parity else []), *doubts)
    if setting.times_training:
        if setting.first_fidelity == "throughput":
            samples = watch.steady.workload.samples_per_step or 1.0
            step = measurement.step_time_s
            sample_time = Interval(step.value / samples, step.low / samples, step.high / samples)
            measurement = dataclasses.replace(measurement, sample_time_s=sample_time)
        time_s = measurement.objective
        return dataclasses.replace(
            measurement,
            objective=Interval(time_s.value, time_s.value, time_s.value) if time_s else None,
            stopped_early=not watch.ended_by_itself,
            notes=notes,
        )
    if setting.space.objective.metric == "cost_per_token" and measurement.objective is not None:
        measurement = _with_its_rate(measurement, watch)
    figure = merit(measurement, setting.space.objective)
    is_rate = setting.space.objective.metric == "tokens_per_s"
    return dataclasses.replace(
        measurement,
        objective=figure,
        tokens_per_s=measurement.tokens_per_s or (figure if is_rate else None),
        stopped_early=not watch.ended_by_itself,
        notes=notes,
    )


def _with_its_rate(measurement: Measurement, watch: Watch) -> Measurement:
    """What the program printed as its tokens/s, in the place of a rate."""
    rate, gpus = measurement.objective, watch.steady.workload.gpus
    per_gpu = rate.value / gpus if rate is not None else None
    return dataclasses.replace(
        measurement, objective=None, tokens_per_s=rate, tokens_per_s_per_gpu=per_gpu
    )


OTHER_DATA = ("global_batch_size", "seq_length")
"""Parameters under which no loss can be compared: the batches are others."""
OTHER_STEPS = ("optimizer", "learning_rate", "warmup_steps", "weight_decay")
"""Parameters under which only the loss before the first update can be compared."""


def _parity(
    setting: Setting,
    measurement: Measurement,
    record: TrialRecord,
    earlier: Sequence[TrialRecord],
) -> str | None:
    """What to note where first losses leave the baseline's of the same seed and way of learning.

    Those count also of a baseline that still runs, or that failed after it had told some.
    """
    told = (r for r in earlier if r.measurement is not None and r.measurement.first_losses)
    baseline = next((r for r in told if r.kind == "baseline"), None)
    if baseline is None or baseline.measurement is None or baseline.number == record.number:
        return None
    moved = {n for n, value in record.values.items() if value != baseline.values.get(n)}
    if moved & set(OTHER_DATA):
        return None
    losses = measurement.first_losses[: 1 if moved & set(OTHER_STEPS) else None]
    first = setting.seeds[0]
    if (record.seed or first) != (baseline.seed or first):
        return None
    tolerance = setting.space.trial.loss_tolerance
    return parity_note(losses, baseline.measurement.first_losses, tolerance)
