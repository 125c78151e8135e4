"""Learning a machine's constants from its trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autotune.costmodel import Calibrator, CostTable, Observation
from autotune.costmodel.constants import NAMES
from tests.costmodel.jobs import model_of, table_of


@pytest.fixture()
def table() -> CostTable:
    sizes = [(tp, pp, mbs) for tp in (1, 2, 4, 8) for pp in (1, 2, 4) for mbs in (1, 2, 4, 8)]
    tp, pp, mbs = (list(column) for column in zip(*sizes, strict=True))
    return table_of(
        model_of(nodes=4, batch=512),
        tensor_model_parallel_size=tp,
        pipeline_model_parallel_size=pp,
        micro_batch_size=mbs,
    )


def other_machine(table: CostTable) -> np.ndarray:
    mean = table.constants.mean.copy()
    for name, value in (("matmul", 0.2), ("tensor_parallel", 0.5), ("activations", -0.15)):
        mean[NAMES.index(name)] += value
    return mean


def error(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(predicted / true - 1).mean())


def test_nothing_seen_leaves_the_prior(table: CostTable) -> None:
    fit = Calibrator(table).fit([])
    assert fit.constants.mean == pytest.approx(table.constants.mean)
    assert fit.predict().step_time_s == pytest.approx(table.predict().step_time_s)


def test_a_few_trials_teach_the_machine_and_tighten_the_bands(table: CostTable) -> None:
    truth = other_machine(table)
    step, memory = table.step_time(truth), table.allocated(truth)
    before = table.predict()
    seen = [Observation(i, float(step[i]), float(memory[i])) for i in (0, 13, 25, 38, 47)]
    after = Calibrator(table).fit(seen).predict()
    assert error(after.step_time_s, step) < 0.25 * error(before.step_time_s, step)
    assert error(after.allocated_gib, memory) < 0.5 * error(before.allocated_gib, memory)
    assert after.time_sigma.mean() < 0.7 * before.time_sigma.mean()


def test_three_trials_tell_the_pace_of_a_cluster_that_is_slower_throughout(
    table: CostTable,
) -> None:
    sure = replace(table.constants, sigma=table.constants.sigma * 0.2, time_sigma=0.05)
    step = 2.5 * table.step_time(table.constants.mean)
    seen = [Observation(i, float(step[i])) for i in (0, 13, 25)]
    fit = Calibrator(table, sure).fit(seen)
    assert error(table.step_time(fit.constants.mean), step) < 0.05
    alone = Calibrator(table, sure).fit(seen[:1])
    assert abs(alone.constants["pace"]) < 0.1


def test_one_broken_measurement_does_not_move_the_rest(table: CostTable) -> None:
    truth = table.constants.mean
    step = table.step_time(truth)
    known = replace(table.constants, sigma=table.constants.sigma * 0.3, time_sigma=0.05)
    seen = [Observation(i, float(step[i])) for i in range(0, 48, 5)]
    seen[4] = replace(seen[4], step_time_s=8 * seen[4].step_time_s)
    fit = Calibrator(table, known).fit(seen)
    assert error(table.step_time(fit.constants.mean), step) < 0.03


def test_out_of_memory_raises_the_need_and_fitting_lowers_it(table: CostTable) -> None:
    need = table.predict().memory_gib
    below = int(np.argmin(np.abs(need - 0.93 * table.capacity_gib)))
    chance = table.predict().probability_fits(table.capacity_gib)[below]
    failed = Calibrator(table).fit([Observation(below, oom=True)] * 2)
    ran = Calibrator(table).fit([Observation(below, step_time_s=1.0)] * 2)
    assert failed.probability_fits([below])[0] < chance < ran.probability_fits([below])[0]


def test_thousands_of_trials_are_thinned_to_the_same_answer(table: CostTable) -> None:
    truth = other_machine(table)
    step = table.step_time(truth)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, len(table), 5000)
    seen = [Observation(int(i), float(step[i] * np.exp(rng.normal(0, 0.03)))) for i in rows]
    fit = Calibrator(table).fit(seen)
    assert error(table.step_time(fit.constants.mean), step) < 0.02


def test_rows_taken_predict_as_in_the_whole(table: CostTable) -> None:
    rows = [5, 40, 5, 0]
    whole, some = table.predict(), table.take(rows).predict()
    assert some.step_time_s == pytest.approx(whole.step_time_s[rows])
    assert some.memory_gib == pytest.approx(whole.memory_gib[rows])
