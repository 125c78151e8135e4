"""Which configs fit into memory: trials that told, and what the cost model expects of the rest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from autotune import figures
from autotune.plots.figure import BAD, GOOD, Plot, figure, short_names
from autotune.plots.story import Story
from autotune.trial import Outcome, TrialRecord

Cell = tuple[str, str]
Counts = Mapping[Cell, tuple[int, int]]
"""Of each cell how many there are, and how many of them fit."""
COLOURS = [[0, BAD], [0.5, "#f3e3b3"], [1, GOOD]]
CELL_PRICE = 0.7
MOST_CELLS = 150


def feasibility(story: Story) -> Plot | None:
    """Share of configs that fit, over the two parameters that tell it best.

    None where nothing ran out of memory and nothing is expected to.
    """
    told = [r for r in story.records if r.outcome in (Outcome.OK, Outcome.OOM_GPU)]
    mixed = len({record.outcome for record in told}) == 2
    memory = story.memory
    if len(story.varied) < 2 or not (mixed or (memory and 0 < memory.fitting < memory.legal)):
        return None
    pairs = list(itertools.combinations(story.varied, 2))
    tried = {pair: _tried(told, *pair) for pair in pairs}
    expected: dict[Cell, Counts] = {pair: memory.cells(*pair) if memory else {} for pair in pairs}
    judged = tried if mixed else expected
    fitting = [p for p in pairs if len(expected[p]) <= MOST_CELLS]
    first, second = min(fitting or pairs, key=lambda pair: _disorder(judged[pair]))
    return _drawn(story, told, (first, second), tried[first, second], expected[first, second])


def _tried(told: list[TrialRecord], first: str, second: str) -> Counts:
    cells: dict[Cell, tuple[int, int]] = {}
    for record in told:
        key = (figures.shown(record.values.get(first)), figures.shown(record.values.get(second)))
        count, fit = cells.get(key, (0, 0))
        cells[key] = (count + 1, fit + (record.outcome is Outcome.OK))
    return cells


def _disorder(cells: Counts) -> float:
    """How mixed the cells are (entropy, weighted by count), with a price for each cell."""
    whole = sum(count for count, _ in cells.values()) or 1
    scale = min(whole, 100) / whole
    mixed = sum(count * scale * _entropy(fit / count) for count, fit in cells.values())
    return mixed + CELL_PRICE * len(cells)


def _entropy(share: float) -> float:
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)


def _drawn(
    story: Story, told: list[TrialRecord], pair: Cell, tried: Counts, expected: Counts
) -> Plot:
    xs, ys = (_axis([*tried, *expected], at) for at in (0, 1))
    untried = {cell: counts for cell, counts in expected.items() if cell not in tried}
    layers = [
        _layer(xs, ys, untried, lambda count, fit: f"{fit / count:.0%}?", faint=True),
        _layer(xs, ys, tried, lambda count, fit: f"{fit} of {count}", faint=False),
    ]
    fits = sum(record.outcome is Outcome.OK for record in told)
    names = [short_names([name]) for name in pair]
    said = f"{fits} of {len(told)} trials fit; {' and '.join(names)} tell it best."
    if story.memory is not None:
        said += (
            f" By the cost model {story.memory.fitting:,} of {story.memory.legal:,} legal configs "
            "should. Full cells count trials, faint ones with ? were not tried: the share expected."
        )
    else:
        said += " Cells say how many trials fit; empty ones were not tried."
    axis = {"type": "category"}
    height = min(700, 140 + 46 * len(ys))
    drawn = figure(layers, names[0], names[1], height, xaxis=axis, yaxis=axis)
    return Plot("What fits into memory?", said, drawn)


def _layer(
    xs: list[str], ys: list[str], cells: Counts, write: Callable[[int, int], str], *, faint: bool
) -> dict[str, Any]:
    shares = [
        [cells[x, y][1] / cells[x, y][0] if (x, y) in cells else None for x in xs] for y in ys
    ]
    texts = [[write(*cells[x, y]) if (x, y) in cells else "" for x in xs] for y in ys]
    layer = {"type": "heatmap", "x": xs, "y": ys, "z": shares, "text": texts, "zmin": 0, "zmax": 1,
             "texttemplate": "%{text}", "showscale": False, "xgap": 2, "ygap": 2,
             "hoverongaps": False, "colorscale": COLOURS}  # fmt: skip
    return {**layer, "opacity": 0.35, "textfont": {"color": "#24292f"}} if faint else layer


def _axis(cells: Iterable[Cell], at: int) -> list[str]:
    """A parameter's shown values in order: numbers by size, n/a first."""

    def order(text: str) -> tuple[int, float, str]:
        try:
            return (1, float(text), "")
        except ValueError:
            return (0 if text == figures.shown(None) else 2, 0.0, text)

    return sorted({cell[at] for cell in cells}, key=order)
