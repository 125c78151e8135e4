"""How the search went: best so far, what failed, where trials ran."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from autotune import figures
from autotune.plots.figure import ACCENT, BAD, GOOD, MUTED, PLAIN, ROW_PX, Plot, figure
from autotune.plots.story import Story
from autotune.trial import Outcome


def best_so_far(story: Story) -> Plot | None:
    """Every measured trial and the best until then, against GPU-hours spent."""
    hours, spent = [], 0.0
    values, best, labels = [], [], []
    top: float | None = None
    for record in story.searched:
        spent += record.gpu_seconds / 3600
        objective = figures.objective_of(record)
        if objective is None:
            continue
        better = max if story.maximize else min
        top = objective.value if top is None else better(top, objective.value)
        hours.append(spent)
        values.append(objective.value)
        best.append(top)
        labels.append(f"trial {record.number} ({record.kind})")
    if len(values) < 2:
        return None
    reached = next(h for h, value in zip(hours, best, strict=True) if value == best[-1])
    data = [
        {"type": "scatter", "mode": "markers", "name": "trials", "x": hours, "y": values,
         "text": labels, "marker": {"color": MUTED, "size": 7}},
        {"type": "scatter", "mode": "lines", "name": "best so far", "x": hours, "y": best,
         "line": {"shape": "hv", "color": GOOD, "width": 3}},
    ]  # fmt: skip
    if story.found.baseline is not None:
        value = story.found.baseline.objective.value
        data.append(
            {"type": "scatter", "mode": "lines", "name": "baseline", "x": [hours[0], hours[-1]],
             "y": [value, value], "line": {"color": ACCENT, "dash": "dash"}}
        )  # fmt: skip
    return Plot(
        "How fast did the search find it?",
        f"The best single measurement, {figures.number(best[-1])} {story.unit}, came after "
        f"{figures.number(reached)} of {figures.number(spent)} GPU-hours.",
        figure(data, "GPU-hours spent", story.unit, yaxis={"rangemode": "tozero"}),
    )


def failures(story: Story) -> Plot | None:
    """How many trials ended in each outcome."""
    counts = Counter(str(record.outcome) for record in story.records)
    if not story.failed:
        return None
    spent = sum(record.gpu_seconds for record in story.failed) / 3600
    names = [name for name, _ in counts.most_common()][::-1]
    colours = [GOOD if name == Outcome.OK.value else BAD for name in names]
    bars = {"type": "bar", "orientation": "h", "y": names, "x": [counts[n] for n in names],
            "text": [str(counts[n]) for n in names], "marker": {"color": colours}}  # fmt: skip
    return Plot(
        "What failed, and what did it cost?",
        f"{len(story.failed)} of {len(story.records)} trials did not end ok; they took "
        f"{figures.number(spent)} GPU-hours.",
        figure([bars], "trials", height=90 + 2 * ROW_PX * len(names), showlegend=False),
    )


def timeline(story: Story) -> Plot | None:
    """When each trial ran, a row per node (wall clock of the controller)."""
    spans = []
    for record in story.searched:
        try:
            start = datetime.fromisoformat(record.started_at)
            end = datetime.fromisoformat(record.ended_at)
        except ValueError:
            continue
        for node in record.nodes or ("this host",):
            spans.append((node, start, max(0.0, (end - start).total_seconds()), record))
    if not spans:
        return None
    first = min(start for _, start, _, _ in spans)
    nodes = sorted({node for node, *_ in spans})
    data = []
    for name, ok, colour in (("ok", True, PLAIN), ("failed", False, BAD)):
        rows = [span for span in spans if (span[3].outcome is Outcome.OK) == ok]
        data.append(
            {"type": "bar", "orientation": "h", "name": name, "y": [row[0] for row in rows],
             "base": [(row[1] - first).total_seconds() for row in rows],
             "x": [row[2] for row in rows], "text": [str(row[3].number) for row in rows],
             "hovertext": [f"trial {r[3].number}: {r[3].outcome}" for r in rows],
             "textposition": "inside", "insidetextanchor": "middle", "textangle": 0,
             "marker": {"color": colour, "line": {"color": "#ffffff", "width": 1}}}
        )  # fmt: skip
    whole = max((start - first).total_seconds() + length for _, start, length, _ in spans)
    busy = sum(length for _, _, length, _ in spans) / (whole * len(nodes)) if whole else 0.0
    return Plot(
        "Were the nodes kept busy?",
        f"Trials ran for {min(busy, 1.0):.0%} of {figures.duration(whole)} on {len(nodes)} "
        f"node{'s' if len(nodes) > 1 else ''} (real time"
        f"{', sped up by the simulation' if story.simulated else ''}).",
        figure(data, "seconds since the first trial", barmode="overlay",
               uniformtext={"mode": "hide", "minsize": 9},
               height=140 + 2 * ROW_PX * len(nodes)),
    )  # fmt: skip
