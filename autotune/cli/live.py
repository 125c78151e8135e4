"""What a running search shows: a live screen in a terminal, plain lines when piped."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from autotune import figures
from autotune.cli import console, views
from autotune.controller import Listener, Progress
from autotune.controller.standing import result
from autotune.trial import Outcome, TrialRecord

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

REFRESH_S = 0.25
RECENT = 8


class Board:
    """The figures both views show: best against baseline, failures, cost."""

    def __init__(self, metric: str, maximize: bool, budget: int | None) -> None:
        self.metric = metric
        self.maximize = maximize
        self.budget = budget
        self.records: list[TrialRecord] = []
        self.started = time.monotonic()

    def add(self, record: TrialRecord) -> None:
        """A trial was told."""
        self.records.append(record)

    def table(self, most: int) -> Table:
        """The last trials."""
        baseline = views.baseline_values(self.records)
        return views.trial_table(self.records[-most:], self.metric, baseline)

    def label(self, record: TrialRecord) -> str:
        """What a trial changes against the baseline."""
        return figures.label(record, views.baseline_values(self.records))

    def searched(self) -> int:
        """Trials that count toward the budget."""
        return sum(record.kind in ("baseline", "search", "audit") for record in self.records)

    def summary(self) -> str:
        """One line: best so far, baseline, failures, GPU-hours."""
        found = result(self.records, self.maximize)
        from autotune.controller.standing import best_so_far, fastest_sample

        leader = best_so_far(self.records, self.maximize)
        best = leader.objective.value if leader else None
        base = found.baseline.objective.value if found.baseline else None
        look = None if leader else fastest_sample(self.records)
        if look is not None:
            parts = [f"fastest look {figures.number(1.0 / look.value)} samples/s"]
        else:
            parts = [f"best {figures.number(best)} {figures.unit(self.metric)}"]
        if best and base:
            parts.append(f"{best / base if self.maximize else base / best:.2f}x the baseline")
        elif any(
            r.kind == "baseline" and r.outcome not in (None, Outcome.OK) for r in self.records
        ):
            parts.append("the baseline failed")
        failures = {k: v for k, v in views.counts(self.records).items() if k != "ok"}
        parts += [f"{count} {outcome}" for outcome, count in failures.items()]
        hours = sum(record.gpu_seconds for record in self.records) / 3600
        parts.append(f"{figures.number(hours)} GPU-hours")
        return ", ".join(parts)


class PlainLines:
    """One line a trial: for pipes, logs and NO_COLOR terminals that are no terminals."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def started(self, record: TrialRecord) -> None:
        """Nothing: the end of a trial is what is worth a line."""

    def progress(self, running: list[Progress]) -> None:
        """Nothing."""

    def finished(self, record: TrialRecord) -> None:
        """One line with figure, outcome and reason, and how the study stands."""
        self.board.add(record)
        objective = figures.objective_of(record)
        shown = (
            f" {figures.interval(objective)} {figures.unit(self.board.metric)}" if objective else ""
        )
        print(
            f"trial {record.number} {self.board.label(record)}: {record.outcome}{shown}"
            f" ({figures.why(record)}) | {self.board.summary()}",
            file=sys.stderr,
            flush=True,
        )

    def message(self, text: str) -> None:
        """The message on a line of its own."""
        print(f"autotune: {text}", file=sys.stderr, flush=True)


class LiveScreen:
    """A progress bar, the recent trials, and the trials that run now."""

    def __init__(self, board: Board) -> None:
        from rich import progress
        from rich.live import Live

        self.board = board
        self._running: list[Progress] = []
        self._drawn = 0.0
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
        )
        self._task = self._bar.add_task("trials", total=board.budget)
        self._live: Live = Live(console=console.talk(), auto_refresh=False, transient=True)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, record: TrialRecord) -> None:
        """Shown by the next refresh."""

    def progress(self, running: list[Progress]) -> None:
        """Redraw, four times a second at most."""
        self._running = running
        now = time.monotonic()
        if now - self._drawn >= REFRESH_S:
            self._drawn = now
            self._live.update(self._screen(), refresh=True)

    def finished(self, record: TrialRecord) -> None:
        """Move the bar and the table."""
        self.board.add(record)
        self._bar.update(self._task, completed=self.board.searched())
        self._live.update(self._screen(), refresh=True)

    def message(self, text: str) -> None:
        """Printed above the screen."""
        self._live.console.print(text, style="yellow")

    def _screen(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        lines: list[RenderableType] = [
            self.board.table(RECENT),
            Text(""),
        ]
        lines += [Text(running_line(item), style="cyan") for item in self._running]
        lines += [self._bar, Text(self.board.summary(), style="bold")]
        return Group(*lines)


def running_line(item: Progress) -> str:
    """A running trial in words: step, phase, time left."""
    of = f"/{item.total_steps}" if item.total_steps else ""
    step = f" step {item.step}{of}" if item.step is not None else ""
    rate = f", {figures.number(item.step_time_s)} s/step" if item.step_time_s else ""
    return (
        f"trial {item.number}: {item.phase}{step}{rate}, {figures.duration(item.elapsed_s)} so "
        f"far, {_time_left(item)}"
    )


def _time_left(item: Progress) -> str:
    """By the pace so far, starting included, where steps are counted; else until the limit."""
    limit = max(0.0, item.time_limit_s - item.elapsed_s)
    if not item.step or not item.total_steps:
        return f"limit in {figures.duration(limit)}"
    left = item.elapsed_s * max(0, item.total_steps - item.step) / item.step
    return f"at most {figures.duration(min(left, limit))} left"


def listener_for(board: Board) -> Listener:
    """The live screen in a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        return LiveScreen(board)
    return PlainLines(board)
