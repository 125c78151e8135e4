"""What the measured configs tell: memory against speed, what matters, what fits, what wins."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from autotune import figures
from autotune.config import SHORT_NAMES
from autotune.plots.figure import BAD, GOOD, MUTED, PLAIN, ROW_PX, Plot, figure
from autotune.plots.story import Story
from autotune.trial import Outcome, TrialRecord

TOP = 10
ENOUGH_TRIALS = 20
RESAMPLES = 300


def _short(name: str) -> str:
    return SHORT_NAMES.get(name, name)


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
    least = min(memory for _, memory, _ in rows if memory is not None)
    most = max(memory for _, memory, _ in rows if memory is not None)
    return Plot(
        "Does speed cost memory?",
        f"Measured configs peak between {figures.number(least)} and {figures.number(most)} GiB a "
        "GPU; bars are 95% intervals.",
        figure(data, "peak memory, GiB a GPU", story.unit),
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
             "y": [_short(name) for name in names], "text": shown,
             "textposition": "top center", "name": f"trial {standing.record.number}",
             "hovertemplate": "%{y} = %{text}<extra>" + figures.interval(standing.objective)
                              + "</extra>",
             "line": {"color": GOOD if first else MUTED, "width": 4 if first else 1}}
        )  # fmt: skip
    same = [n for n in names if len({str(s.values.get(n)) for s in top}) == 1]
    said = ", ".join(f"{_short(n)} {figures.shown(top[0].values.get(n))}" for n in same[::-1])
    ticks = {"tickvals": [-0.15, 0, 1], "ticktext": ["n/a", "lowest", "highest"]}
    return Plot(
        f"What do the best {len(top)} configs have in common?",
        f"All share {said}." if said else "No parameter has the same value in all of them.",
        figure(data, height=80 + 2 * ROW_PX * len(names), showlegend=False,
               xaxis={**ticks, "range": [-0.25, 1.15]}, yaxis={"type": "category"}),
    )  # fmt: skip


def _places(records: Sequence[TrialRecord], name: str) -> dict[str, float]:
    """Where each shown value stands on a parameter's axis: 0 to 1, n/a left of it."""
    values = {record.values.get(name) for record in records} - {None}
    ordered = sorted(values, key=lambda v: (isinstance(v, str), v if not isinstance(v, str) else 0))
    span = max(1, len(ordered) - 1)
    found = {figures.shown(value): at / span for at, value in enumerate(ordered)}
    return {**found, figures.shown(None): -0.15}


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
        found.append((_share(y, codes), float(low), float(high), _short(name)))
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
        figure([bars], "share of the differences, 90% interval", height=80 + ROW_PX * len(found),
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


def feasibility(story: Story) -> Plot | None:
    """Share of trials that fit, over the two parameters that tell it best."""
    told = [r for r in story.records if r.outcome in (Outcome.OK, Outcome.OOM_GPU)]
    if len({record.outcome for record in told}) < 2 or len(story.varied) < 2:
        return None
    pairs = itertools.combinations(story.varied, 2)
    first, second = min(pairs, key=lambda pair: _mixed(told, *pair))
    cells = _cells(told, first, second)
    xs = list(_places(list(told), first))
    ys = list(_places(list(told), second))
    xs, ys = ([v for v in axis if any(v == cell[i] for cell in cells)]
              for i, axis in enumerate((xs, ys)))  # fmt: skip
    shares = [[_fit_share(cells.get((x, y))) for x in xs] for y in ys]
    texts = [[_fit_text(cells.get((x, y))) for x in xs] for y in ys]
    heat = {"type": "heatmap", "x": [f"{v}" for v in xs], "y": [f"{v}" for v in ys], "z": shares,
            "text": texts, "texttemplate": "%{text}", "zmin": 0, "zmax": 1, "showscale": False,
            "xgap": 2, "ygap": 2, "hoverongaps": False,
            "colorscale": [[0, BAD], [0.5, "#f3e3b3"], [1, GOOD]]}  # fmt: skip
    fits = sum(record.outcome is Outcome.OK for record in told)
    return Plot(
        "What fits into memory?",
        f"{fits} of {len(told)} trials fit; {_short(first)} and {_short(second)} tell it best. "
        "Cells say how many fit; empty ones were not tried.",
        figure([heat], first, second, xaxis={"type": "category"}, yaxis={"type": "category"}),
    )


def _cells(told: list[TrialRecord], first: str, second: str) -> dict[tuple[str, str], list[bool]]:
    cells: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for record in told:
        key = (figures.shown(record.values.get(first)), figures.shown(record.values.get(second)))
        cells[key].append(record.outcome is Outcome.OK)
    return cells


def _mixed(told: list[TrialRecord], first: str, second: str) -> float:
    """How mixed the cells are (entropy, weighted), with a price for each cell."""
    cells = _cells(told, first, second).values()
    return sum(len(cell) * _entropy(sum(cell) / len(cell)) for cell in cells) + 0.7 * len(cells)


def _entropy(share: float) -> float:
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)


def _fit_share(cell: list[bool] | None) -> float | None:
    return sum(cell) / len(cell) if cell else None


def _fit_text(cell: list[bool] | None) -> str:
    return f"{sum(cell)} of {len(cell)}" if cell else ""
