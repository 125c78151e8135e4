"""A study in words and rows: what every format of the report says alike."""

from __future__ import annotations

from dataclasses import replace

from autotune import figures
from autotune.config import SHORT_NAMES
from autotune.controller.ladder import Measured
from autotune.plots.story import Story, gpu_hours
from autotune.search.finalists import breaks_parity
from autotune.trial import TrialRecord


def headline(story: Story) -> str:
    """The result in one line."""
    gain = story.found.gain
    if story.found.winner is None:
        return f"{story.name}: no config may win"
    if gain is None:
        return f"{story.name}: a winner without a measured baseline"
    if story.found.baseline is not None and (
        story.found.baseline.config_hash == story.found.winner.config_hash
    ):
        return f"{story.name}: nothing measured beats the baseline"
    noise = ", within the noise" if gain.low <= 1.0 else ""
    return f"{story.name}: {gain.value:.2f} times the baseline{noise}"


def summary(story: Story) -> list[str]:
    """Winner, gain, ties and cost, each a sentence or two."""
    found = story.found
    said = []
    if found.winner is None:
        said.append("No config ran to its end with enough measured steps, so none may win.")
    else:
        numbers = ", ".join(map(str, found.winner.numbers))
        said.append(
            f"The winner, measured in trial{'s' if len(found.winner.numbers) > 1 else ''} "
            f"{numbers}, reaches {figures.interval(found.winner.objective)} {story.unit}."
        )
        if found.baseline is None:
            said.append("The baseline failed, so there is no gain to state.")
        else:
            said.append(
                f"The baseline reaches {figures.interval(found.baseline.objective)} {story.unit}; "
                f"the gain is {figures.gain(found.gain)}, at 95% confidence."
            )
        said += _beside(story)
        if found.ties:
            tied = ", ".join("/".join(map(str, tie.numbers)) for tie in found.ties[:5])
            said.append(f"A tie: trials {tied} cannot be told apart from the winner.")
    legal = f" of {story.legal:,} legal configs" if story.legal else " configs"
    searched = story.searched
    said.append(
        f"The search tried {len({r.config_hash for r in searched}):,}{legal} in "
        f"{len(searched)} trials and {figures.number(gpu_hours(searched))} GPU-hours; "
        f"it ended because {story.ended}."
    )
    rungs = [record for record in story.records if record.kind == "rung"]
    if rungs:
        said.append(
            f"Afterwards {len(rungs)} trials and {figures.number(gpu_hours(rungs))} GPU-hours "
            "went into measuring which change bought what."
        )
    return said


def _beside(story: Story) -> list[str]:
    """How the seeds of a time to train were scored; the best with and without what is opted in."""
    found = story.found
    said = []
    winner, unchanged = found.winner, found.unchanged
    if winner is not None and winner.reached is not None:
        looks = sum(record.fidelity == "throughput" for record in story.records)
        runs = sum(record.fidelity == "target" for record in story.records)
        said.append(
            f"{looks} trials looked at the throughput, {runs} ran to the target loss; of the "
            f"winner {figures.seeds(winner.reached, winner.turns)}."
        )
        measured = winner.record.measurement
        if measured is not None and measured.perplexity is not None:
            said.append(f"Its last run ended at a perplexity of {measured.perplexity:.4g}.")
    opted_in = ", ".join(story.settings.get("opted_in") or ())
    if winner is not None and unchanged is not None:
        same = unchanged.config_hash == winner.config_hash
        said.append(
            f"The space lets {opted_in} change; "
            + (
                "the winner leaves it as the baseline has it."
                if same
                else f"without that the best is trial {unchanged.record.number} with "
                f"{figures.interval(unchanged.objective)} {story.unit}."
            )
        )
    broken = [str(record.number) for record in story.records if breaks_parity(record)]
    if broken:
        said.append(
            "The first losses left the baseline's tolerance, so that the config cannot win, in "
            f"trial{'s' if len(broken) > 1 else ''} {', '.join(broken[:8])}."
        )
    return said


def cards(story: Story) -> list[tuple[str, str]]:
    """The figures to see first."""
    found = story.found
    rows = [("gain over the baseline", figures.gain(found.gain))]
    if found.winner is not None:
        rows.append((f"winner, {story.unit}", figures.interval(found.winner.objective)))
    rows.append(("trials", f"{len(story.records)} ({len(story.failed)} failed)"))
    mark = ", simulated" if story.simulated else ""
    rows.append((f"GPU-hours{mark}", figures.number(story.gpu_hours)))
    return rows


def changes(story: Story) -> list[tuple[str, str, str]]:
    """Parameters that the winner has otherwise than the baseline."""
    if story.found.winner is None or story.found.baseline is None:
        return []
    rows = figures.changes(story.found.winner.values, story.found.baseline.values)
    return [(_with_short_name(name), before, after) for name, before, after in rows]


def _with_short_name(name: str) -> str:
    return f"{name} ({SHORT_NAMES[name]})" if name in SHORT_NAMES else name


def trial_row(record: TrialRecord) -> tuple[str, str, str, str, str]:
    """Number and kind, config, figure, memory, outcome."""
    measured = record.measurement
    memory = figures.number(measured.peak_memory_gib) if measured else ""
    objective = figures.objective_of(record)
    return (
        f"{record.number} {record.kind}",
        figures.label(replace(record, kind="search")),
        figures.interval(objective) if objective else figures.cell(record),
        memory,
        f"{record.outcome}: {figures.why(record)}",
    )


def rung_rows(story: Story) -> list[tuple[str, str, str]]:
    """The ladder: what changed, the figure, the gain over the last rung that has one."""
    opted_in = story.settings.get("opted_in") or ()
    rows = []
    for item in story.ladder:
        if item.rung.role == "without":
            continue
        name = ", ".join(
            f"{n} = {figures.shown(item.rung.values.get(n))}" + " (opted in)" * (n in opted_in)
            for n in item.rung.changed
        )
        shown = figures.interval(item.objective) if item.objective else _outcome(item)
        step = "" if item.rung.role == "baseline" else figures.gain(item.gain)
        rows.append((name or "baseline", shown, step))
    return rows


def undone_rows(story: Story) -> list[tuple[str, str]]:
    """What the winner gains over itself without one change, each taken back alone."""
    return [
        (", ".join(item.rung.changed), figures.gain(item.gain) if item.gain else _outcome(item))
        for item in story.ladder
        if item.rung.role == "without"
    ]


def _outcome(item: Measured) -> str:
    return item.failure.split(":")[0]
