"""The sampler with a cost model: right ones help, wrong ones lose their say, lessons carry over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autotune.costmodel import CostModel, Workload, nominal
from autotune.costmodel.constants import NAMES, fitted_constants
from autotune.costmodel.hardware import hardware_for_gpu
from autotune.search.merit import pareto_front
from autotune.search.prior import CostPrior, prepare_table
from autotune.search.rows import FiniteRows
from autotune.search.sampler import AutotuneProposer
from autotune.search.warm_start import warm_started
from autotune.space import Cluster
from autotune.space.limits import Objective
from autotune.space.model import ModelShape
from autotune.trial import Interval, Measurement, Outcome, TrialRecord

SHAPE = ModelShape(
    num_layers=32,
    hidden_size=4096,
    ffn_hidden_size=11008,
    num_attention_heads=32,
    num_query_groups=32,
    vocab_size=32000,
)


def model(framework: str = "megatron", gpu: str = "H100") -> CostModel:
    cluster = Cluster(nodes=4, gpus_per_node=8, hardware=hardware_for_gpu(gpu, None))
    return CostModel(SHAPE, cluster, Workload(256, 4096, "bf16", "adam", framework), nominal())


@pytest.fixture(scope="module")
def rows() -> FiniteRows:
    return FiniteRows.product(
        {
            "tensor_model_parallel_size": [1, 2, 4, 8, 16],
            "pipeline_model_parallel_size": [1, 2, 4, 8],
            "micro_batch_size": [1, 2, 4, 8],
            "zero_stage": [0, 1],
            "recompute_granularity": ["none", "full"],
        },
        lambda v: (
            int(v["tensor_model_parallel_size"]) * int(v["pipeline_model_parallel_size"]) <= 32
        ),
    )


class Truth:
    """The same physics with other constants: what a real cluster would show."""

    def __init__(self, rows: FiniteRows, seed: int = 3) -> None:
        table = prepare_table(model(), rows)
        moved = 0.7 * np.random.default_rng(seed).standard_normal(len(NAMES))
        mean = table.constants.mean + moved * table.constants.sigma
        self.rows, self.tokens = rows, table.tokens
        self.time, self.shown = table.step_time(mean), table.allocated(mean)
        self.fits = table.device_memory(mean) <= table.capacity_gib

    @property
    def best(self) -> float:
        return float(self.time[self.fits].min())

    def run(self, number: int, row: int) -> TrialRecord:
        config, time = self.rows.config(row), float(self.time[row])
        if not self.fits[row]:
            return TrialRecord(number, config.values, config.hash, outcome=Outcome.OOM_GPU)
        rate = float(self.tokens[row]) / time
        measured = Measurement(
            Interval(time, time, time),
            Interval(rate, rate, rate),
            peak_memory_gib=float(self.shown[row]),
        )
        return TrialRecord(
            number, config.values, config.hash, outcome=Outcome.OK, measurement=measured
        )

    def search(self, proposer: AutotuneProposer, trials: int) -> list[TrialRecord]:
        told: list[TrialRecord] = []
        for number in range(trials):
            proposal = proposer.propose(told, [])
            assert proposal is not None
            told.append(self.run(number, proposal.index))
        return told


def reached(told: list[TrialRecord]) -> float:
    return min(t.measurement.step_time_s.value for t in told if t.measurement)


def test_a_moved_cluster_is_learned_in_a_handful_of_trials(rows: FiniteRows) -> None:
    for seed in range(4):
        truth = Truth(rows, seed)
        told = truth.search(AutotuneProposer(rows, model()), 8)
        assert reached(told) <= truth.best * 1.03
        assert sum(t.outcome is Outcome.OOM_GPU for t in told) <= 3


def test_predictions_come_with_bands_and_hit_after_some_trials(rows: FiniteRows) -> None:
    truth = Truth(rows)
    proposer = AutotuneProposer(rows, model())
    told = truth.search(proposer, 10)
    proposer.propose(told, [])
    near = np.flatnonzero(truth.fits & (truth.time < 1.3 * truth.best))
    inside = 0
    for row in near.tolist():
        p = proposer.predict(row)
        assert p.step_time_s and p.step_time_low_s and p.step_time_high_s and p.memory_gib
        inside += p.step_time_low_s <= truth.time[row] <= p.step_time_high_s
    assert inside / len(near) >= 0.9


def test_a_prior_of_other_rows_loses_its_say(rows: FiniteRows) -> None:
    truth = Truth(rows)
    table = prepare_table(model(), rows)
    turned = np.random.default_rng(0).permutation(len(rows))
    proposer = AutotuneProposer(rows, prior=CostPrior.around(table.take(turned)))
    told = truth.search(proposer, 25)
    blind = proposer._beliefs(np.zeros(0, dtype=np.int64)).speed
    assert (
        sum(w for w, r in zip(blind.weights, blind.rivals, strict=True) if r.name == "data") > 0.9
    )
    assert reached(told) <= truth.best * 1.1


def test_an_objective_in_another_unit_is_still_guided_by_the_model(rows: FiniteRows) -> None:
    truth = Truth(rows)
    proposer = AutotuneProposer(rows, model(), Objective(metric="mfu"))
    told: list[TrialRecord] = []
    for number in range(8):
        proposal = proposer.propose(told, [])
        assert proposal is not None
        record = truth.run(number, proposal.index)
        if record.measurement is not None:
            mfu = 0.4 * truth.best / record.measurement.step_time_s.value
            figure = Interval(mfu, mfu, mfu)
            record = replace(record, measurement=replace(record.measurement, objective=figure))
        told.append(record)
    assert reached(told) <= truth.best * 1.03
    assert proposer.predict(0).step_time_s is None


def test_what_cannot_fit_is_skipped_with_its_margin(rows: FiniteRows) -> None:
    truth = Truth(rows)
    proposer = AutotuneProposer(rows, model())
    told = truth.search(proposer, 6)
    margins = [s for s in proposer.skipped(told) if s.kind == "predicted not to fit"]
    assert margins
    assert all(s.margin_gib is None or s.margin_gib > 0.0 for s in margins)
    right = [not truth.fits[s.index] for s in margins if s.margin_gib is not None]
    assert np.mean(right) > 0.9


def test_each_framework_is_predicted_by_its_own_conventions() -> None:
    both = FiniteRows.product(
        {"framework": ["megatron", "deepspeed"], "micro_batch_size": [1, 2], "zero_stage": [1, 2]}
    )
    table = prepare_table(model(), both)
    for name in ("megatron", "deepspeed"):
        part = np.flatnonzero(both.column("framework") == name)
        own = replace(model(), workload=replace(model().workload, framework=name))
        alone = own.prepare({n: both.column(n)[part] for n in both.names})
        shared, fitted = table.constants.mean, fitted_constants(own.hardware, name).mean
        apart = fitted - fitted_constants(own.hardware, model().workload.framework).mean
        assert np.allclose(table.device_memory(shared)[part], alone.device_memory(shared + apart))
        overhead = NAMES.index("step_overhead")
        apart[overhead] = 0.0
        assert np.allclose(table.step_time(shared)[part], alone.step_time(shared + apart))


def test_lessons_carry_over_to_another_study(rows: FiniteRows) -> None:
    errors = np.zeros(2)
    for seed in range(4):
        truth = Truth(rows, seed)
        told = truth.search(AutotuneProposer(rows, model()), 12)
        warm = warm_started(model(), model(), rows, told)
        ran = np.flatnonzero(truth.fits & (truth.time < 2 * truth.best))
        for at, which in enumerate((model(), warm)):
            table = prepare_table(which, rows)
            predicted = table.step_time(table.constants.mean)[ran]
            errors[at] += float(np.abs(np.log(predicted / truth.time[ran])).mean())
        assert (warm.constants.sigma <= model().constants.sigma + 1e-9).all()
    assert errors[1] < 0.7 * errors[0]


def test_half_a_lesson_carries_over_to_another_gpu(rows: FiniteRows) -> None:
    told = Truth(rows).search(AutotuneProposer(rows, model()), 12)
    same = warm_started(model(), model(), rows, told).constants.mean
    other = warm_started(model(gpu="A100"), model(), rows, told).constants.mean
    assert np.allclose(other - nominal().mean, 0.5 * (same - nominal().mean))
    untaught = model()
    assert warm_started(untaught, model(), rows, []) is untaught


def test_the_pareto_front_trades_speed_for_headroom() -> None:
    def trial(number: int, rate: float, memory: float) -> TrialRecord:
        figure = Interval(rate, rate, rate)
        measured = Measurement(figure, figure, peak_memory_gib=memory)
        return TrialRecord(number, {}, str(number), outcome=Outcome.OK, measurement=measured)

    trials = [trial(0, 100, 70), trial(1, 90, 40), trial(2, 80, 50), trial(3, 70, 20)]
    assert [t.number for t in pareto_front(trials)] == [0, 1, 3]


def test_the_cost_of_a_token_has_the_cost_model_for_a_prior(rows: FiniteRows) -> None:
    by_rate = AutotuneProposer(rows, model()).propose([], [])
    for metric in ("cost_per_token", "tokens_per_s_per_gpu"):
        objective = Objective(metric=metric, price_per_gpu_hour=2.0)
        found = AutotuneProposer(rows, model(), objective).propose([], [])
        assert found is not None and by_rate is not None
        assert found.index == by_rate.index  # equal GPUs and tokens: the same order
        assert found.prediction.step_time_s == pytest.approx(by_rate.prediction.step_time_s)
