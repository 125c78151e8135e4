"""A study in a notebook: typed records, a data frame, plots.

study = autotune.load_study("gpt_torch-1")
study.winner.values; study.frame().sort_values("objective"); study.plot("best_so_far").show()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from autotune.controller.standing import Standing
from autotune.errors import BadInput
from autotune.plots import PLOTS, Story, story_of
from autotune.study.paths import StudyPaths
from autotune.study.record import Study
from autotune.trial import Interval, TrialRecord

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


class LoadedStudy:
    """What a study holds at the time it is loaded; reading it changes nothing."""

    def __init__(self, story: Story) -> None:
        self.story = story

    @property
    def records(self) -> Sequence[TrialRecord]:
        """All finished trials by number."""
        return self.story.records

    @property
    def winner(self) -> Standing | None:
        """The config that won, with its pooled interval; None when none may win."""
        return self.story.found.winner

    @property
    def baseline(self) -> Standing | None:
        """The baseline; None when it failed."""
        return self.story.found.baseline

    @property
    def gain(self) -> Interval | None:
        """Winner over baseline with its 95% interval."""
        return self.story.found.gain

    def frame(self) -> pd.DataFrame:
        """One row a trial, its parameters as columns; BadInput without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise BadInput("a data frame needs pandas: pip install pandas") from error
        frame: pd.DataFrame = pandas.DataFrame([_row(record) for record in self.records])
        return frame

    def plot(self, name: str) -> go.Figure:
        """A plot of the report by name; BadInput lists the names, or says data is lacking."""
        if name not in PLOTS:
            raise BadInput.unknown("plot", name, list(PLOTS))
        made = PLOTS[name](self.story)
        if made is None:
            raise BadInput(f"too little was measured for the plot {name!r}")
        return made.titled()


def load_study(name: str, storage: str | None = None) -> LoadedStudy:
    """Read a study of ``$AUTOTUNE_HOME``; BadInput lists the known ones."""
    study = Study.open(StudyPaths.named(name), storage)
    try:
        return LoadedStudy(story_of(study))
    finally:
        study.close()


def _row(record: TrialRecord) -> dict[str, Any]:
    measured = record.measurement
    span = measured.objective if measured else None
    return {
        "number": record.number,
        "kind": record.kind,
        "fidelity": record.fidelity,
        "seed": record.seed,
        "outcome": str(record.outcome),
        "objective": span.value if span else None,
        "low": span.low if span else None,
        "high": span.high if span else None,
        "step_time_s": measured.step_time_s.value if measured else None,
        "peak_memory_gib": measured.peak_memory_gib if measured else None,
        "gpu_seconds": record.gpu_seconds,
        "simulated": record.simulated,
        **record.values,
    }
