"""What optuna-dashboard shows of ours: a study and its trials in a few words, and the plots."""

from __future__ import annotations

from autotune import figures
from autotune.controller.standing import result
from autotune.plots import PLOTS, story_of
from autotune.study.constraints import constraints
from autotune.study.dashboard import save_plot, write_note
from autotune.study.record import Study
from autotune.trial import TrialRecord

SIMULATED = "**SIMULATED: no GPU was used; every figure comes from the simulated cluster.**"


def study_note(study: Study) -> str:
    """Winner, gain, what changed and what it cost."""
    records = [record for record in study.records() if record.finished]
    metric = str(study.settings.get("metric", "tokens_per_s"))
    found = result(records, *study.reading)
    lines = [f"# {study.name}"]
    if any(record.simulated for record in records):
        lines += ["", SIMULATED]
    lines += ["", f"{len(records)} trials told, {figures.number(_gpu_hours(records))} GPU-hours."]
    if found.winner is None:
        return "\n".join([*lines, "", "No config may win yet."])
    winner = found.winner
    lines += [
        "",
        f"Winner: trial {winner.record.number}, **{figures.interval(winner.objective)} "
        f"{figures.unit(metric)}**, {figures.gain(found.gain)} over the baseline.",
    ]
    base = found.baseline.values if found.baseline else {}
    lines += ["", "| changed | baseline | winner |", "|---|---|---|"]
    lines += [f"| {n} | {a} | {b} |" for n, a, b in figures.changes(winner.values, base)]
    return "\n".join(lines)


def trial_note(record: TrialRecord, metric: str) -> str:
    """Why this config, what was expected, what came."""
    lines = [f"# Trial {record.number}: {record.outcome}"]
    if record.simulated:
        lines += ["", SIMULATED]
    lines += ["", f"Chosen because: {record.reason}"]
    expected = expectation(record)
    if expected:
        lines += ["", f"Expected: {expected}."]
    lines += ["", f"What came: {outcome(record, metric)}"]
    violated = [name for name, value in constraints(record.outcome).items() if value > 0]
    if violated:
        lines += ["", f"Violated constraint: {', '.join(violated)}."]
    lines += [f"- `{line[:200]}`" for line in record.evidence[:3]]
    return "\n".join(lines)


def expectation(record: TrialRecord) -> str:
    """What the cost model said when the config was chosen; empty without one."""
    said = []
    prediction = record.prediction
    if prediction.step_time_s is not None:
        low, high = prediction.step_time_low_s, prediction.step_time_high_s
        band = f" ({figures.number(low)} to {figures.number(high)})" if low and high else ""
        said.append(f"{figures.number(prediction.step_time_s)} s/step{band}")
    if prediction.memory_gib is not None:
        said.append(f"{figures.number(prediction.memory_gib)} GiB a GPU")
    if prediction.probability_fits is not None:
        said.append(f"{prediction.probability_fits:.0%} likely to fit")
    return ", ".join(said)


def outcome(record: TrialRecord, metric: str) -> str:
    """What a trial came to: its figure, or why it has none."""
    measured = record.measurement
    objective = figures.objective_of(record)
    if objective is None or measured is None:
        return f"{record.outcome or 'still running'}: {figures.why(record) or 'no reason yet'}"
    said = [
        f"{figures.interval(objective)} {figures.unit(metric)}",
        f"{figures.interval(measured.step_time_s)} s/step over {measured.steps_used} steps",
    ]
    if measured.peak_memory_gib is not None:
        said.append(f"{figures.number(measured.peak_memory_gib)} GiB at most")
    if record.outcome_reason:
        said.append(record.outcome_reason)
    return ", ".join(said)


def write_notes(study: Study) -> int:
    """Bring the notes of the study and of its finished trials up to date; how many changed."""
    metric = str(study.settings.get("metric", "tokens_per_s"))
    count = int(write_note(study, None, study_note(study)))
    for record in study.records():
        if record.finished:
            count += write_note(study, record.number, trial_note(record, metric))
    return count


def save_plots(study: Study) -> int:
    """Bring the study's plots on optuna-dashboard's page up to date; how many changed."""
    story = story_of(study)
    drawn = ((name, make(story)) for name, make in PLOTS.items())
    return sum(save_plot(study, name, plot.titled()) for name, plot in drawn if plot is not None)


def _gpu_hours(records: list[TrialRecord]) -> float:
    return sum(record.gpu_seconds for record in records) / 3600
