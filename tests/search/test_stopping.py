"""A search that ends by itself: also where nothing matters, and not before it knows."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.search.rows import FiniteRows
from autotune.search.sampler import PATIENCE, AutotuneProposer, patience
from autotune.trial import Interval, Measurement, Outcome, TrialRecord

ROWS = FiniteRows.product({"a": [1, 2, 4, 8, 16], "b": [1, 2, 3], "c": ["w", "x", "y", "z"]})


def trials_until_the_end(noise: float, effect: float = 0.0) -> tuple[int, float]:
    """How many trials it took, and by how much (log) the best found misses the best there is."""
    random = np.random.default_rng(1)
    speed = effect * np.log2(np.array(ROWS.column("a"), dtype=float))
    proposer, told = AutotuneProposer(ROWS), []
    while proposer.finished(told) is None:
        proposal = proposer.propose(told, [])
        if proposal is None:
            break
        rate = float(np.exp(speed[proposal.index] + noise * random.standard_normal()))
        figure = Interval(rate, rate, rate)
        config = ROWS.config(proposal.index)
        measured = Measurement(Interval(1 / rate, 1 / rate, 1 / rate), figure, objective=figure)
        told.append(
            TrialRecord(
                len(told), config.values, config.hash, outcome=Outcome.OK, measurement=measured
            )
        )
    found = [speed[ROWS.find(record.values)] for record in told]
    return len(told), float(speed.max() - max(found))


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_equal_configs_are_not_all_tried(noise: float) -> None:
    tried, _ = trials_until_the_end(noise)
    assert tried < len(ROWS)


def test_a_search_with_something_to_find_ends_with_it() -> None:
    tried, missed = trials_until_the_end(noise=0.002, effect=0.2)
    assert tried < len(ROWS)
    assert missed == 0.0


def test_among_many_configs_the_search_is_more_patient() -> None:
    assert patience(len(ROWS)) == patience(1) == PATIENCE
    assert patience(134_856) == 18
