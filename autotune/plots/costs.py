"""Where time goes: the measured ladder, the step by part, what was predicted against observed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from autotune import figures
from autotune.plots.figure import (
    ACCENT,
    BAD,
    GOOD,
    LEGEND,
    MUTED,
    PLAIN,
    Plot,
    figure,
    log_axis,
    short_names,
)
from autotune.plots.story import Story

SEEN = 0.02
OTHER = "other"


def ladder(story: Story) -> Plot | None:
    """The measured ladder as a waterfall: bars that start where the rung before ended."""
    steps = [m for m in story.ladder if m.rung.role != "without"]
    if sum(m.objective is not None for m in steps) < 2:
        return None
    names, base, length, colours, text = [], [], [], [], []
    before = 0.0
    for at, item in enumerate(steps):
        names.append(_rung_name(at, item.rung.changed))
        if item.objective is None:
            base.append(before)
            length.append(0.0)
            colours.append(BAD)
            text.append(f"{item.failure.split(':')[0]}: no figure")
            continue
        value = item.objective.value
        base.append(before)
        length.append(value - before)
        rises = (value >= before) == story.maximize
        colours.append(MUTED if at == 0 else GOOD if rises else BAD)
        text.append(f"{item.gain.value:.2f}x" if item.gain else figures.number(value))
        before = value
    bars = {"type": "bar", "orientation": "h", "y": names, "x": length, "base": base,
            "text": text, "marker": {"color": colours},
            "textposition": ["inside", *["outside"] * (len(steps) - 1)]}  # fmt: skip
    good = [m for m in steps[1:] if m.gain is not None]
    best = max(good, key=lambda m: m.gain.value if m.gain else 0.0, default=None)
    said = "No step has a gain."
    if best is not None:
        said = f"The largest step is {short_names(best.rung.changed)}: {figures.gain(best.gain)}."
    return Plot(
        "Which change bought what?",
        f"{said} Every bar was measured; gains along a path depend on its order, see the table.",
        figure([bars], story.unit, height=90 + 40 * len(names), showlegend=False,
               xaxis={"range": [0, 1.25 * max(m.objective.value for m in steps if m.objective)]},
               yaxis={"autorange": "reversed", "type": "category"}),
    )  # fmt: skip


def _rung_name(at: int, changed: tuple[str, ...]) -> str:
    if at == 0:
        return "baseline"
    more = f" (+{len(changed) - 1})" if len(changed) > 1 else ""
    return f"{at}. {short_names(changed[:1])}{more}"


def step_time(story: Story) -> Plot | None:
    """Seconds of one step by part, as the cost model splits it, baseline beside winner."""
    if not story.breakdown:
        return None
    share, unit = _same_work(story)
    breakdown = {
        name: _large_parts({part: seconds * share.get(name, 1.0) for part, seconds in row.items()})
        for name, row in story.breakdown.items()
    }
    parts = sorted(
        {part for row in breakdown.values() for part in row},
        key=lambda part: (part == OTHER, -max(row.get(part, 0.0) for row in breakdown.values())),
    )
    configs = list(breakdown)[::-1]
    colours = [PLAIN, ACCENT, GOOD, BAD, "#7a5fa8", "#4fa3a5", MUTED, "#6b4c35", "#c37aa8"]
    data = [
        {"type": "bar", "orientation": "h", "name": part.replace("_", " "), "y": configs,
         "x": [breakdown[config].get(part, 0.0) for config in configs],
         "marker": {"color": colours[at % len(colours)]}}
        for at, part in enumerate(parts)
    ]  # fmt: skip
    name, row = list(breakdown.items())[-1]
    largest = max(row, key=lambda part: row[part])
    return Plot(
        "Where does the time of a step go?",
        f"By the cost model (predicted, not measured), {largest.replace('_', ' ')} takes "
        f"{row[largest] / sum(row.values()):.0%} of the {name}'s step.",
        figure(
            data,
            f"{unit}, predicted",
            barmode="stack",
            height=300,
            legend={**LEGEND, "traceorder": "normal"},
        ),
    )


def _same_work(story: Story) -> tuple[dict[str, float], str]:
    """By what to multiply a step's seconds so that both configs do the same work, and the unit."""
    found = {"baseline": story.found.baseline, "winner": story.found.winner}
    batches = {
        name: standing.values.get("global_batch_size")
        for name, standing in found.items()
        if standing
    }
    sizes = {name: float(size) for name, size in batches.items() if isinstance(size, int)}
    if len(set(sizes.values())) < 2:
        return {}, "seconds a step"
    return {name: 1.0 / size for name, size in sizes.items()}, "seconds a sequence"


def _large_parts(row: Mapping[str, float]) -> dict[str, float]:
    """Parts by seconds; those too short to be seen are summed."""
    whole = sum(row.values())
    large = {part: seconds for part, seconds in row.items() if seconds >= SEEN * whole}
    rest = whole - sum(large.values())
    return {**large, OTHER: rest} if rest > 0 else large


def predicted_and_observed(story: Story) -> Plot | None:
    """Step times expected when trials were chosen against what was measured."""
    rows = [
        (record.number, record.prediction, record.measurement.step_time_s.value)
        for record in story.good
        if record.measurement is not None and record.prediction.step_time_s is not None
    ]
    if len(rows) < 3:
        return None
    seen = [value for _, _, value in rows]
    expected = [prediction.step_time_s or 0.0 for _, prediction, _ in rows]
    low = [p.step_time_low_s or e for (_, p, _), e in zip(rows, expected, strict=True)]
    high = [p.step_time_high_s or e for (_, p, _), e in zip(rows, expected, strict=True)]
    off = statistics.median(abs(e / s - 1) for e, s in zip(expected, seen, strict=True))
    held = sum(a <= s <= b for a, s, b in zip(low, seen, high, strict=True))
    ends = [min(expected + seen), max(expected + seen)]
    data = [
        {"type": "scatter", "mode": "lines", "name": "as expected", "x": ends, "y": ends,
         "line": {"color": MUTED, "dash": "dash"}},
        {"type": "scatter", "mode": "markers", "name": "trials, with the band expected",
         "x": seen, "y": expected, "text": [f"trial {number}" for number, _, _ in rows],
         "error_y": {"type": "data", "symmetric": False, "thickness": 1, "width": 0,
                     "array": [b - e for b, e in zip(high, expected, strict=True)],
                     "arrayminus": [e - a for e, a in zip(expected, low, strict=True)]},
         "marker": {"color": PLAIN, "size": 8}},
    ]  # fmt: skip
    return Plot(
        "Can its expectations be trusted?",
        f"Half of the {len(rows)} expectations, each made before its trial, were within "
        f"{off:.1%} of what was measured; {held} of {len(rows)} bands held it.",
        figure(
            data,
            "measured, s/step",
            "expected, s/step",
            xaxis=log_axis(seen),
            yaxis=log_axis([*low, *high]),
        ),
    )
