"""Where time goes: the measured ladder, the step by part, what was predicted against observed."""

from __future__ import annotations

import statistics

from autotune import figures
from autotune.config import SHORT_NAMES
from autotune.plots.figure import ACCENT, BAD, GOOD, MUTED, PLAIN, Plot, figure
from autotune.plots.story import Story


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
            text.append(item.failure.split(":")[0])
            continue
        value = item.objective.value
        base.append(before)
        length.append(value - before)
        rises = (value >= before) == story.maximize
        colours.append(MUTED if at == 0 else GOOD if rises else BAD)
        text.append(figures.number(value) + (f" ({item.gain.value:.2f}x)" if item.gain else ""))
        before = value
    bars = {"type": "bar", "orientation": "h", "y": names, "x": length, "base": base,
            "text": text, "marker": {"color": colours},
            "textposition": ["auto" if m.objective else "outside" for m in steps]}  # fmt: skip
    good = [m for m in steps[1:] if m.gain is not None]
    best = max(good, key=lambda m: m.gain.value if m.gain else 0.0, default=None)
    said = "No step has a gain."
    if best is not None:
        said = f"The largest step is {', '.join(best.rung.changed)}: {figures.gain(best.gain)}."
    return Plot(
        "Which change bought what?",
        f"{said} Every bar was measured; gains along a path depend on its order, see the table.",
        figure([bars], story.unit, height=90 + 40 * len(names), showlegend=False,
               xaxis={"range": [0, 1.3 * max(m.objective.value for m in steps if m.objective)]},
               yaxis={"autorange": "reversed", "type": "category"}),
    )  # fmt: skip


def _rung_name(at: int, changed: tuple[str, ...]) -> str:
    if at == 0:
        return "baseline"
    names = [SHORT_NAMES.get(name, name) for name in changed]
    return f"{at}. {names[0]}" + (f" (+{len(names) - 1})" if len(names) > 1 else "")


def step_time(story: Story) -> Plot | None:
    """Seconds of one step by part, as the cost model splits it, baseline beside winner."""
    if not story.breakdown:
        return None
    parts = sorted(
        {part for row in story.breakdown.values() for part in row},
        key=lambda part: -max(row.get(part, 0.0) for row in story.breakdown.values()),
    )
    configs = list(story.breakdown)[::-1]
    colours = [PLAIN, ACCENT, GOOD, BAD, "#7a5fa8", "#4fa3a5", MUTED, "#6b4c35", "#c37aa8"]
    data = [
        {"type": "bar", "orientation": "h", "name": part.replace("_", " "), "y": configs,
         "x": [story.breakdown[config].get(part, 0.0) for config in configs],
         "marker": {"color": colours[at % len(colours)]}}
        for at, part in enumerate(parts)
    ]  # fmt: skip
    name, row = list(story.breakdown.items())[-1]
    largest = max(row, key=lambda part: row[part])
    return Plot(
        "Where does the time of a step go?",
        f"By the cost model (predicted, not measured), {largest.replace('_', ' ')} takes "
        f"{row[largest] / sum(row.values()):.0%} of the {name}'s step.",
        figure(data, "seconds a step, predicted", barmode="stack", height=300),
    )


def predicted_and_observed(story: Story) -> Plot | None:
    """Step times expected when trials were chosen against what was measured."""
    rows = [
        (r.prediction, r.measurement.step_time_s, r.number)
        for r in story.good
        if r.measurement is not None and r.prediction.step_time_s is not None
    ]
    if len(rows) < 3:
        return None
    expected = [prediction.step_time_s or 0.0 for prediction, _, _ in rows]
    seen = [interval.value for _, interval, _ in rows]
    off = statistics.median(abs(a / b - 1) for a, b in zip(expected, seen, strict=True))
    ends = [min(expected + seen), max(expected + seen)]
    high = [(p.step_time_high_s or e) - e for (p, _, _), e in zip(rows, expected, strict=True)]
    low = [e - (p.step_time_low_s or e) for (p, _, _), e in zip(rows, expected, strict=True)]
    data = [
        {"type": "scatter", "mode": "lines", "name": "as expected", "x": ends, "y": ends,
         "line": {"color": MUTED, "dash": "dash"}},
        {"type": "scatter", "mode": "markers", "name": "trials", "x": seen, "y": expected,
         "text": [f"trial {number}" for _, _, number in rows],
         "error_y": {"type": "data", "symmetric": False, "thickness": 1,
                     "array": high, "arrayminus": low},
         "marker": {"color": PLAIN, "size": 8}},
    ]  # fmt: skip
    return Plot(
        "Can its expectations be trusted?",
        f"Half of the {len(rows)} expectations, each made before its trial, were within "
        f"{off:.1%} of what was measured.",
        figure(data, "measured, s/step", "expected, s/step"),
    )
