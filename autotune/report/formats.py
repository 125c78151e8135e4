"""The report as text: one offline HTML page, Markdown, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import autotune
from autotune.errors import BadInput
from autotune.plots import PLOTS, Story
from autotune.report import words
from autotune.report.notes import SIMULATED
from autotune.study.codec import record_to_json

HERE = Path(__file__).parent
NAMES = ("html", "md", "json", "csv")


def render(story: Story, name: str) -> str:
    """The report in one format; BadInput lists the known ones."""
    writers: dict[str, Callable[[Story], str]] = {
        "html": html, "md": markdown, "json": as_json, "csv": as_csv,
    }  # fmt: skip
    if name not in writers:
        raise BadInput.unknown("report format", name, NAMES)
    return writers[name](story)


def html(story: Story) -> str:
    """One page that needs no network: plotly's cartesian bundle is inside (1.5 MB)."""
    plots = {name: plot for name, make in PLOTS.items() if (plot := make(story)) is not None}
    return fill_page(
        "page.html.j2",
        {name: plot.figure for name, plot in plots.items()},
        story=story,
        headline=words.headline(story),
        summary=words.summary(story),
        cards=words.cards(story),
        changes=words.changes(story),
        plots=list(plots.items()),
        rungs=words.rung_rows(story),
        undone=words.undone_rows(story),
        left_out=", ".join(name.replace("_", " ") for name in PLOTS if name not in plots),
        failed=story.failed,
        trials=[words.trial_row(record) for record in story.records],
    )


def fill_page(template: str, drawn: Mapping[str, Any], **facts: Any) -> str:
    """A page of ours with figures (by the id of their element) and plotly's bundle inside."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True)
    return environment.get_template(template).render(
        figures_json=_inside_script(drawn),
        bundle=(HERE / "static" / "plotly-cartesian.min.js").read_text(encoding="utf-8"),
        version=autotune.__version__,
        **facts,
    )


def _inside_script(value: Any) -> str:
    """JSON that no text in it can end the script with."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def markdown(story: Story) -> str:
    """Summary, changes, ladder and trials as Markdown."""
    lines = [f"# {words.headline(story)}", ""]
    if story.simulated:
        lines += [SIMULATED, ""]
    lines += [" ".join(words.summary(story)), ""]
    lines += _table(("parameter", "baseline", "winner"), words.changes(story))
    lines += _table(("change", story.unit, "gain of this step"), words.rung_rows(story))
    lines += _table(("taken back alone from the winner", "it bought"), words.undone_rows(story))
    lines += [
        f"- {plot.question} {plot.answer}" for make in PLOTS.values() if (plot := make(story))
    ]
    lines += ["", "## Trials", ""]
    rows = [words.trial_row(record) for record in story.records]
    lines += _table(("trial", "config", story.unit, "memory GiB", "outcome"), rows)
    lines += _table(("", ""), list(story.facts.items()))
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: list[Any]) -> list[str]:
    if not rows:
        return []
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    body = ["| " + " | ".join(row) + " |" for row in cells]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body, ""]


def as_json(story: Story) -> str:
    """Everything for a program: result, ladder, trials, fingerprint."""
    found = story.found
    document = {
        "study": story.name,
        "simulated": story.simulated,
        "metric": story.metric,
        "winner": found.winner.record.number if found.winner else None,
        "params": dict(found.winner.values) if found.winner else None,
        "objective": found.winner.objective.__dict__ if found.winner else None,
        "baseline_objective": found.baseline.objective.__dict__ if found.baseline else None,
        "gain": found.gain.__dict__ if found.gain else None,
        "opted_in": list(story.settings.get("opted_in") or ()),
        "without_opt_ins": (
            {
                "trial": found.unchanged.record.number,
                "params": dict(found.unchanged.values),
                "objective": found.unchanged.objective.__dict__,
            }
            if found.unchanged
            else None
        ),
        "seeds": found.winner.turns if found.winner and found.winner.reached is not None else None,
        "seeds_reached": found.winner.reached if found.winner else None,
        "gpu_hours": story.gpu_hours,
        "ended": story.ended,
        "ladder": [
            {
                **item.rung.to_json(),
                "objective": item.objective.__dict__ if item.objective else None,
                "gain": item.gain.__dict__ if item.gain else None,
                "failure": item.failure or None,
            }
            for item in story.ladder
        ],
        "trials": [record_to_json(record) for record in story.records],
        "facts": dict(story.facts),
    }
    return json.dumps(document, indent=1) + "\n"


def as_csv(story: Story) -> str:
    """One row a trial; text that a spreadsheet would run as a formula is quoted."""
    names = list(story.records[0].values) if story.records else []
    out = io.StringIO()
    writer = csv.writer(out)
    figures_head = ("objective", "low", "high", "step_time_s", "tokens_per_s", "peak_memory_gib")
    head = (
        "number",
        "kind",
        "fidelity",
        "seed",
        "outcome",
        "reason",
        *figures_head,
        "gpu_seconds",
        "simulated",
    )
    writer.writerow([*head, *names])
    for record in story.records:
        measured = record.measurement
        span = measured.objective if measured else None
        row: list[Any] = [record.number, record.kind, record.fidelity, record.seed]
        row += [record.outcome, record.outcome_reason]
        row += [span.value, span.low, span.high] if span else [None] * 3
        row += [measured.step_time_s.value] if measured else [None]
        row += [measured.tokens_per_s.value] if measured and measured.tokens_per_s else [None]
        row += [measured.peak_memory_gib if measured else None]
        row += [record.gpu_seconds, record.simulated]
        row += [record.values.get(name) for name in names]
        writer.writerow([_harmless(cell) for cell in row])
    return out.getvalue()


def _harmless(cell: Any) -> Any:
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@"):
        return "'" + cell
    return cell
