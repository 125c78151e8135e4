"""Our search as a Ray Tune searcher, for those who run their trials under Tune.

    searcher = make_searcher(FiniteRows.product({...}, legal), metric="tokens_per_s", mode="max")
    tune.Tuner(train, tune_config=tune.TuneConfig(search_alg=searcher, num_samples=20)).fit()

A trial that reports ``{"oom": True}`` teaches memory; one that errors counts as a crash of
unknown cause. Ray is imported only when a searcher is made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from autotune.costmodel import CostModel
from autotune.errors import BadInput
from autotune.search.proposal import LegalRows
from autotune.search.sampler import AutotuneProposer
from autotune.space.limits import Objective
from autotune.trial import Interval, Measurement, Outcome, TrialRecord

Mode = Literal["min", "max"]


class TuneHistory:
    """What a searcher remembers between asks, without Ray: rows out, outcomes in."""

    def __init__(
        self, rows: LegalRows, metric: str, mode: Mode, cost_model: CostModel | None, seed: int
    ) -> None:
        self.rows = rows
        self.metric = metric
        self.running: dict[str, int] = {}
        self.records: list[TrialRecord] = []
        maximize = mode == "max"
        objective = Objective(
            metric="tokens_per_s" if maximize else "step_time_s",
            direction="maximize" if maximize else "minimize",
        )
        self._proposer = AutotuneProposer(rows, cost_model, objective, seed)

    def ask(self, trial_id: str) -> dict[str, Any] | None:
        """The values of the next row, None when every row was run or is running."""
        proposal = self._proposer.propose(self.records, list(self.running.values()))
        if proposal is None:
            return None
        self.running[trial_id] = proposal.index
        return dict(self.rows.config(proposal.index).values)

    def tell(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        """What a trial reported last; a trial that this searcher never asked for is left out."""
        row = self.running.pop(trial_id, None)
        if row is None:
            return
        config = self.rows.config(row)
        outcome, measurement = Outcome.CRASH, None
        if result and result.get("oom"):
            outcome = Outcome.OOM_GPU
        elif not error and result and self.metric in result:
            outcome = Outcome.OK
            figure = Interval(*[float(result[self.metric])] * 3)
            measurement = Measurement(Interval(0.0, 0.0, 0.0), objective=figure)
        self.records.append(
            TrialRecord(
                len(self.records),
                config.values,
                config.hash,
                outcome=outcome,
                measurement=measurement,
            )
        )

    def save(self, path: str) -> None:
        """Writes what was told as JSON; what ran is asked again after a restore."""
        told = [
            {
                "values": dict(record.values),
                "outcome": str(record.outcome),
                "value": record.measurement.objective.value
                if record.measurement and record.measurement.objective
                else None,
            }
            for record in self.records
        ]
        Path(path).write_text(json.dumps(told), encoding="utf-8")

    def restore(self, path: str) -> None:
        """Takes up what ``save`` wrote; BadInput for a config that these rows do not hold."""
        self.records.clear()
        self.running.clear()
        for told in json.loads(Path(path).read_text(encoding="utf-8")):
            row = self.rows.find(told["values"])
            if row is None:
                raise BadInput(f"{path}: {told['values']} is not among the rows of this searcher.")
            self.running["restored"] = row
            value = {} if told["value"] is None else {self.metric: told["value"]}
            oom = told["outcome"] == str(Outcome.OOM_GPU)
            self.tell("restored", {**value, "oom": oom}, error=False)


def make_searcher(
    rows: LegalRows,
    metric: str,
    mode: Mode = "max",
    cost_model: CostModel | None = None,
    seed: int = 0,
) -> Any:
    """A ``ray.tune.search.Searcher`` over legal rows; BadInput when Ray is not installed."""
    if mode not in ("min", "max"):
        raise BadInput.unknown("mode", mode, ("min", "max"))
    try:
        from ray.tune.search import Searcher
    except ImportError as error:
        raise BadInput(
            f"Ray Tune is missing ({error}): pip install 'autotune-llm[ray]'."
        ) from error

    class AutotuneSearcher(Searcher):
        """Hands each Tune trial one legal row that was not run before."""

        def __init__(self) -> None:
            super().__init__(metric=metric, mode=mode)
            self.history = TuneHistory(rows, metric, mode, cost_model, seed)

        def suggest(self, trial_id: str) -> Any:
            return self.history.ask(trial_id) or Searcher.FINISHED

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            self.history.tell(trial_id, result, error)

        def save(self, checkpoint_path: str) -> None:
            self.history.save(checkpoint_path)

        def restore(self, checkpoint_path: str) -> None:
            self.history.restore(checkpoint_path)

    return AutotuneSearcher()
