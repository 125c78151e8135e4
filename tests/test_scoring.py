"""Scoring of times to train."""

from __future__ import annotations

import math

import pytest

from autotune.scoring import olympic_mean


def test_extremes_are_dropped_where_enough_remain() -> None:
    assert olympic_mean([30.0, 10.0, 20.0, 1.0, 900.0]) == 20.0


def test_few_runs_are_averaged_whole() -> None:
    assert olympic_mean([10.0, 20.0, 60.0]) == 30.0


def test_one_run_that_never_arrived_is_forgiven_and_two_are_not() -> None:
    assert olympic_mean([10.0, 20.0, 30.0, 40.0, math.inf]) == 30.0
    assert olympic_mean([10.0, 20.0, 30.0, math.inf, math.inf]) == math.inf


@pytest.mark.parametrize("times", [[], [1.0, math.nan], [-1.0]])
def test_what_is_no_time_is_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match=r"run|seconds"):
        olympic_mean(times)
