"""Steps measured while they come: warm-up, stalls, honest intervals, and when to stop."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.search.series import anytime_interval, find_steady
from autotune.search.steady import SteadyState, StepLimits, Workload, measure, scoring_steps
from autotune.trial import Interval, StepSample

JOB = Workload(tokens_per_step=1000.0, samples_per_step=10.0, gpus=2)


def steps(*seconds: float, **facts) -> list[StepSample]:
    return [StepSample(step=k + 1, seconds=s, **facts) for k, s in enumerate(seconds)]


def test_compile_steps_and_stalls_do_not_count() -> None:
    measured = measure(steps(40.0, 1.6, 1.0, 1.0, 1.01, 0.99, 9.0, 1.0, 1.0, 1.0, 1.0), JOB)
    assert measured is not None
    assert measured.warmup_dropped == 2
    assert measured.step_time_s.value == pytest.approx(1.0, rel=0.01)
    assert any("1 stalled" in note for note in measured.notes)
    assert measured.tokens_per_s is not None
    assert measured.tokens_per_s_per_gpu == pytest.approx(500.0, rel=0.01)


def test_slow_steps_that_keep_coming_are_no_stalls() -> None:
    series = [1.0, 3.0] * 10
    steady = find_steady(series)
    assert steady.stalls == 0
    assert steady.interval.low < 2.0 < steady.interval.high


def test_declared_warmup_counts_steps_not_lines() -> None:
    samples = [StepSample(step=10 * (k + 1), seconds=s) for k, s in enumerate((5, 1, 1, 1, 1))]
    measured = measure(samples, JOB, StepLimits(warmup_steps=10))
    assert measured is not None
    assert measured.warmup_dropped == 1
    assert measured.step_time_s.value == pytest.approx(1.0)


@pytest.mark.parametrize("noise", ["normal", "heavy", "correlated"])
def test_the_interval_holds_at_every_length_at_once(noise: str) -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(200):
        z = rng.standard_normal(60) if noise != "heavy" else rng.standard_t(3, 60)
        if noise == "correlated":
            for k in range(1, 60):
                z[k] = 0.4 * z[k - 1] + np.sqrt(1 - 0.4**2) * z[k]
        series = 1.0 + 0.02 * z
        intervals = [find_steady(series[:n]).interval for n in range(3, 61)]
        missed += any(not i.low <= 1.0 <= i.high for i in intervals)
    assert missed / 200 <= 0.08


def test_few_steps_give_a_wide_interval() -> None:
    one, three = anytime_interval([1.0]), anytime_interval([1.0, 1.01, 0.99])
    many = anytime_interval([1.0, 1.01, 0.99] * 8)
    widths = [i.high - i.low for i in (one, three, many)]
    assert widths[0] > 0.3 > widths[1] > 3 * widths[2]


def test_no_steps_measure_nothing() -> None:
    assert measure([], JOB) is None
    assert measure([StepSample(loss=2.0)], JOB) is None
    with pytest.raises(ValueError, match="no steps"):
        anytime_interval([])


def test_plainly_worse_stops_at_once_and_a_contender_is_measured_to_one_percent() -> None:
    best = Interval(1.0, 0.995, 1.005)
    slow, close = SteadyState(JOB), SteadyState(JOB)
    rng = np.random.default_rng(1)
    worse_after = close_after = None
    for k in range(1, 60):
        wobble = 0.005 * rng.standard_normal()
        slow.feed(StepSample(step=k, seconds=1.5 + wobble))
        close.feed(StepSample(step=k, seconds=1.001 + wobble))
        if worse_after is None and slow.decide(best).stop:
            assert slow.decide(best).worse
            worse_after = k
        if close_after is None and close.decide(best).stop:
            assert not close.decide(best).worse
            close_after = k
    assert worse_after == 3
    assert close_after is not None and 5 <= close_after <= 30
    merit = close.merit()
    assert merit is not None and merit.high - merit.low <= 0.0201 * merit.value


def test_a_metric_that_is_maximised_is_worse_when_lower() -> None:
    job = Workload(metric="score", maximize=True)
    state = SteadyState(job)
    for k in range(6):
        state.feed(StepSample(step=k, extra={"score": 50.0}))
    assert state.decide(Interval(100.0, 99.0, 101.0)).worse
    assert not state.decide(Interval(40.0, 39.0, 41.0)).worse


def test_a_log_that_contradicts_its_own_step_time_is_noted_and_not_believed() -> None:
    measured = measure(steps(*[1.0] * 8, tokens_per_s=4000.0), JOB)
    assert measured is not None and measured.tokens_per_s is not None
    assert measured.tokens_per_s.value == pytest.approx(1000.0)
    assert any("claims 4000" in note for note in measured.notes)


def test_rates_stand_in_for_step_times_unless_the_clock_says_they_boast() -> None:
    honest = [StepSample(step=k, samples_per_s=20.0, arrival_s=0.5 * k) for k in range(10)]
    boasting = [StepSample(step=k, samples_per_s=20.0, arrival_s=2.0 * k) for k in range(10)]
    for samples, seconds in ((honest, 0.5), (boasting, 2.0)):
        measured = measure(samples, JOB)
        assert measured is not None
        assert measured.step_time_s.value == pytest.approx(seconds)


def test_arrivals_stand_in_where_nothing_is_printed() -> None:
    samples = [StepSample(step=5 * k, loss=2.0, arrival_s=3.0 * k) for k in range(8)]
    measured = measure(samples, Workload(metric=None, clock_rate=10.0))
    assert measured is None or measured.step_time_s.value == pytest.approx(6.0)
    rated = [
        StepSample(step=5 * k, seconds=None, arrival_s=3.0 * k, extra={"x": 1.0}) for k in range(8)
    ]
    measured = measure(rated, Workload(clock_rate=10.0))
    assert measured is not None
    assert measured.step_time_s.value == pytest.approx(6.0)


def test_one_rank_scores_and_all_ranks_count_for_memory() -> None:
    samples = [
        StepSample(step=k // 2, seconds=1.0 if k % 2 else None, rank=k % 2, memory_gib=30.0 + k % 2)
        for k in range(12)
    ]
    assert {s.rank for s in scoring_steps(samples)} == {1}
    measured = measure(samples, JOB, peak_memory_gib=25.0)
    assert measured is not None and measured.peak_memory_gib == 31.0


def test_two_lines_of_one_step_are_one_step() -> None:
    lines = [
        sample
        for k in range(6)
        for sample in (StepSample(step=k, loss=2.0), StepSample(step=k, seconds=1.0))
    ]
    merged = scoring_steps(lines)
    assert len(merged) == 6
    assert all(s.loss == 2.0 and s.seconds == 1.0 for s in merged)


def test_padding_is_told_and_not_counted() -> None:
    measured = measure(steps(*[1.0] * 8, tokens=250.0, tokens_per_s=250.0), JOB)
    assert measured is not None and measured.tokens_per_s is not None
    assert measured.true_tokens_per_s == pytest.approx(250.0)
    assert any("250 true tokens/s, 75% are padding" in note for note in measured.notes)
    whole = measure(steps(*[1.0] * 8, tokens=1000.0), JOB)
    assert whole is not None and whole.true_tokens_per_s is None
