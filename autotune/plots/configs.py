"""What the measured configs tell: memory against speed, what matters, what wins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune import figures
from autotune.plots.figure import GOOD, MUTED, PLAIN, ROW_PX, Plot, figure, short_names
from autotune.plots.story import Story
from autotune.trial import TrialRecord

TOP = 10
NEAR = 0.05
NOT_THERE = -0.3
ENOUGH_TRIALS = 20
RESAMPLES = 300


def throughput_and_memory(story: Story) -> Plot | None:
    """Each measured trial's figure with its interval against its peak memory."""
    rows = [
        (record, record.measurement.peak_memory_gib, figures.objective_of(record))
        for record in story.good
        if record.measurement and record.measurement.peak_memory_gib is not None
    ]
    if len(rows) < 3:
        return None
    winner = story.found.winner
    marked = set(winner.numbers) if winner else set()
    data = []
    for name, is_winner, colour in (("trials", False, PLAIN), ("winner", True, GOOD)):
        part = [row for row in rows if (row[0].number in marked) == is_winner]
        spans = [span for _, _, span in part if span is not None]
        data.append(
            {"type": "scatter", "mode": "markers", "name": name,
             "x": [memory for _, memory, _ in part], "y": [span.value for span in spans],
             "error_y": {"type": "data", "symmetric": False, "thickness": 1,
                         "array": [span.high - span.value for span in spans],
                         "arrayminus": [span.value - span.low for span in spans]},
             "text": [f"trial {record.number}" for record, _, _ in part],
             "marker": {"color": colour, "size": 11 if is_winner else 7}}
        )  # fmt: skip
    return Plot(
        "Does speed cost memory?",
        _memory_answer(story) + " Bars are 95% intervals.",
        figure(data, "peak memory, GiB a GPU", story.unit),
    )


def _memory_answer(story: Story) -> str:
    """The winner's peak, and the leanest config that is nearly as good."""
    peaks = [
        (s, s.record.measurement.peak_memory_gib)
        for s in story.ranked
        if s.record.measurement and s.record.measurement.peak_memory_gib is not None
    ]
    best, top = peaks[0]
    near = [row for row in peaks if abs(row[0].objective.value / best.objective.value - 1) <= NEAR]
    lean, least = min(near, key=lambda row: row[1])
    if least > (1 - NEAR) * top:
        return (
            f"The best measured config peaks at {figures.number(top)} GiB a GPU; none within "
            f"{NEAR:.0%} of it needs much less."
        )
    off = abs(lean.objective.value / best.objective.value - 1)
    return (
        f"Little: the best measured config peaks at {figures.number(top)} GiB a GPU, and trial "
        f"{lean.record.number}, {off:.1%} behind it, at {figures.number(least)} GiB."
    )


def best_configs(story: Story) -> Plot | None:
    """The best configs as lines over their parameters; what does not exist stands at n/a."""
    top = story.ranked[:TOP]
    names = [n for n in story.varied if len({str(s.values.get(n)) for s in story.ranked}) > 1]
    if len(top) < 2 or not names:
        return None
    names = names[::-1]
    places = {name: _places(story.records, name) for name in names}
    data = []
    for rank, standing in reversed(list(enumerate(top))):
        shown = [figures.shown(standing.values.get(name)) for name in names]
        first = rank == 0
        data.append(
            {"type": "scatter", "mode": "lines+markers" + ("+text" if first else ""),
             "x": [places[name][value] for name, value in zip(names, shown, strict=True)],
             "y": [short_names([name]) for name in names], "text": shown,
             "textposition": "top center", "name": f"trial {standing.record.number}",
             "hovertemplate": "%{y} = %{text}<extra>" + figures.interval(standing.objective)
                              + "</extra>",
             "line": {"color": GOOD if first else MUTED, "width": 4 if first else 1}}
        )  # fmt: skip
    same = [n for n in names if len({str(s.values.get(n)) for s in top}) == 1]
    said = ", ".join(
        f"{short_names([n])} {figures.shown(top[0].values.get(n))}" for n in same[::-1]
    )
    ticks = {
        "tickangle": 0,
        "tickvals": [NOT_THERE, 0, 1],
        "ticktext": ["n/a", "lowest", "highest"],
    }
    return Plot(
        f"What do the best {len(top)} configs have in common?",
        f"All share {said}." if said else "No parameter has the same value in all of them.",
        figure(data, height=80 + 2 * ROW_PX * len(names), showlegend=False,
               xaxis={**ticks, "range": [NOT_THERE - 0.15, 1.15]}, yaxis={"type": "category"}),
    )  # fmt: skip


def _places(records: Sequence[TrialRecord], name: str) -> dict[str, float]:
    """Where each shown value stands on a parameter's axis: 0 to 1, n/a left of it."""
    values = {record.values.get(name) for record in records} - {None}
    ordered = sorted(values, key=lambda v: (isinstance(v, str), v))
    span = max(1, len(ordered) - 1)
    found = {figures.shown(value): at / span for at, value in enumerate(ordered)}
    return {**found, figures.shown(None): NOT_THERE}


def importance(story: Story) -> Plot | None:
    """Share of the variance of log throughput between a parameter's values, with 90% bootstrap.

    Parameters that moved together share what they explain. None with fewer than 20 measured
    configs, or fewer than two a parameter.
    """
    rows = story.ranked
    names = [n for n in story.varied if len({str(s.values.get(n)) for s in rows}) > 1]
    if len(rows) < max(ENOUGH_TRIALS, 2 * len(names)) or not names:
        return None
    y = np.log([standing.objective.value for standing in rows])
    draw = np.random.default_rng(0)
    samples = [draw.integers(0, len(y), len(y)) for _ in range(RESAMPLES)]
    found = []
    for name in names:
        keys = [str(standing.values.get(name)) for standing in rows]
        codes = np.unique(keys, return_inverse=True)[1]
        low, high = np.quantile([_share(y[s], codes[s]) for s in samples], [0.05, 0.95])
        found.append((_share(y, codes), float(low), float(high), short_names([name])))
    found.sort()
    bars = {"type": "bar", "orientation": "h", "y": [row[3] for row in found],
            "x": [row[0] for row in found], "marker": {"color": PLAIN},
            "error_x": {"type": "data", "symmetric": False,
                        "array": [max(0.0, row[2] - row[0]) for row in found],
                        "arrayminus": [max(0.0, row[0] - row[1]) for row in found]}}  # fmt: skip
    best = found[-1]
    sure = len(found) < 2 or best[1] > found[-2][0]
    return Plot(
        "Which parameters matter?",
        f"{best[3]} alone goes with {best[0]:.0%} of the differences ({best[1]:.0%} to "
        f"{best[2]:.0%}); " + ("it stands out." if sure else "others may matter as much."),
        figure([bars], "share of the differences", height=80 + ROW_PX * len(found),
               showlegend=False, xaxis={"tickformat": ".0%", "rangemode": "tozero"}),
    )  # fmt: skip


def _share(y: np.ndarray, codes: np.ndarray) -> float:
    """Between-group share of variance, corrected for the groups' number (omega squared)."""
    total = float(((y - y.mean()) ** 2).sum())
    groups = [y[codes == code] for code in np.unique(codes)]
    between = float(sum(len(g) * (g.mean() - y.mean()) ** 2 for g in groups))
    free = len(y) - len(groups)
    if total <= 0 or free <= 0:
        return 0.0
    within = (total - between) / free
    return max(0.0, (between - (len(groups) - 1) * within) / (total + within))
