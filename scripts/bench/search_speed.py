"""Times one ask plus tell of our sampler, in memory, with many trials told.

    python scripts/bench/search_speed.py [--asks N] [--million]

Rows: trials told, legal configs, with and without a cost model; CPU milliseconds (which a busy
machine does not stretch), median and worst of N asks in a row, each told one more trial.
Outcomes come from the cost model with its constants moved at random, so that the search has
something to learn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from autotune.controller.setting import prepare
from autotune.costmodel import CostModel, CostTable
from autotune.costmodel.constants import NAMES
from autotune.search.proposal import LegalRows
from autotune.search.rows import FiniteRows
from autotune.search.sampler import AutotuneProposer
from autotune.trial import Interval, Measurement, Outcome, TrialRecord

SPACE = "llama70b_tp_pp"


class MadeUpRuns:
    """Outcomes of rows by the cost model with other constants."""

    def __init__(self, legal: LegalRows, table: CostTable) -> None:
        moved = 0.5 * np.random.default_rng(1).standard_normal(len(NAMES)) * table.constants.sigma
        mean = table.constants.mean + moved
        self.legal, self.tokens = legal, table.tokens
        self.time, self.shown = table.step_time(mean), table.allocated(mean)
        self.fits = table.device_memory(mean) <= table.capacity_gib

    def run(self, number: int, row: int) -> TrialRecord:
        """The trial of one row."""
        config = self.legal.config(row)
        if not self.fits[row]:
            return TrialRecord(number, config.values, str(number), outcome=Outcome.OOM_GPU)
        time_s, rate = float(self.time[row]), float(self.tokens[row] / self.time[row])
        return TrialRecord(
            number,
            config.values,
            str(number),
            outcome=Outcome.OK,
            measurement=Measurement(
                Interval(time_s, time_s, time_s),
                Interval(rate, rate, rate),
                peak_memory_gib=float(self.shown[row]),
            ),
        )


def ask_and_tell(
    legal: LegalRows, runs: MadeUpRuns, model: CostModel | None, told: int, asks: int
) -> list[float]:
    """CPU milliseconds of each ask, the tell of the trial before it included."""
    rows = np.random.default_rng(2).choice(len(legal), told, replace=False)
    history = [runs.run(number, int(row)) for number, row in enumerate(rows)]
    proposer = AutotuneProposer(legal, model)
    proposer.propose(history, [])
    taken = []
    for _ in range(asks):
        start = time.process_time()
        proposal = proposer.propose(history, [])
        taken.append(1e3 * (time.process_time() - start))
        assert proposal is not None
        history.append(runs.run(len(history), proposal.index))
    return taken


def million_rows() -> FiniteRows:
    """A user's own command with a million configs."""
    return FiniteRows.product({f"knob_{k}": list(range(10)) for k in range(6)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line for each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--asks", type=int, default=20)
    parser.add_argument("--million", action="store_true", help="a million legal configs as well")
    options = parser.parse_args(arguments)
    with threadpool_limits(limits=1, user_api="blas"):  # as in the controller
        _measure(options.asks, options.million)


def _measure(asks: int, million: bool) -> None:
    setting = prepare(SPACE)
    legal, model = setting.legal, setting.cost_model
    assert model is not None
    runs = MadeUpRuns(legal, model.prepare(legal.columns()))
    print(f"{'told':>6} {'legal':>8} {'prior':>6} {'median ms':>10} {'worst ms':>9}")
    for told in (0, 100, 1000, 10_000):
        for prior in (model, None):
            taken = ask_and_tell(legal, runs, prior, told, asks)
            _line(told, len(legal), prior is not None, taken)
    if million:
        many = million_rows()
        again = MadeUpMillion(many)
        _line(1000, len(many), False, ask_and_tell(many, again, None, 1000, asks))


class MadeUpMillion(MadeUpRuns):
    """Outcomes of the million rows: a bowl."""

    def __init__(self, legal: FiniteRows) -> None:
        self.legal, self.tokens = legal, np.ones(len(legal))
        self.time = 1.0 + 0.01 * ((legal.codes.astype(float) - 4.0) ** 2).sum(axis=1)
        self.shown = np.ones(len(legal))
        self.fits = np.ones(len(legal), dtype=bool)


def _line(told: int, legal: int, prior: bool, taken: Sequence[float]) -> None:
    median, worst = statistics.median(taken), max(taken)
    print(f"{told:>6} {legal:>8} {'yes' if prior else 'no':>6} {median:>10.1f} {worst:>9.1f}")


if __name__ == "__main__":
    main()
