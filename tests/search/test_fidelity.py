"""Smaller jobs: how small, when they pay, and that they never count as the whole job."""

from __future__ import annotations

import pytest

from autotune.search.fidelity import (
    Size,
    corrected,
    due_in_full,
    fewer_layers,
    fewer_replicas,
    worth_a_check,
)
from autotune.search.ledger import Ledger
from autotune.search.regions import FailingRegions
from autotune.search.rows import FiniteRows
from autotune.space.limits import Objective
from autotune.trial import Fidelity, Interval, Measurement, Outcome, TrialRecord

ROWS = FiniteRows.product({"micro_batch_size": [1, 2, 4], "tensor_model_parallel_size": [1, 2]})
WHOLE = Size(nodes=16, data_parallel_size=32, global_batch_size=1024, num_layers=80)


def trial(
    number: int,
    row: int,
    fidelity: Fidelity,
    outcome: Outcome | None = Outcome.OK,
    time_s: float = 1.0,
) -> TrialRecord:
    config = ROWS.config(row)
    step = Interval(time_s, time_s, time_s)
    measured = Measurement(step, peak_memory_gib=90.0 if fidelity == "proxy" else 40.0)
    ran = outcome is Outcome.OK and fidelity != "check"
    return TrialRecord(
        number,
        config.values,
        config.hash,
        outcome=outcome,
        measurement=measured if ran else None,
        fidelity=fidelity,
    )


def test_fewer_replicas_keep_the_accumulation_and_whole_nodes() -> None:
    first = next(fewer_replicas(WHOLE, gpus_per_node=8, replicas=1))
    assert (first.nodes, first.data_parallel_size, first.global_batch_size) == (1, 2, 64)
    proxy = next(fewer_replicas(WHOLE, gpus_per_node=8, replicas=2))
    assert (proxy.nodes, proxy.data_parallel_size) == (2, 4)  # gradients still cross nodes
    wide = Size(16, 4, 1024, 80)  # a replica takes four nodes
    assert [s.nodes for s in fewer_replicas(wide, 8, 1)] == [4, 8, 12]
    assert [s.nodes for s in fewer_replicas(wide, 8, 2)] == [8, 12]
    assert not list(fewer_replicas(Size(16, 1, 1024, 80), 8, 1))


def test_fewer_layers_keep_the_stages() -> None:
    assert fewer_layers(WHOLE, stages=8, at_least=0).num_layers == 16
    assert fewer_layers(WHOLE, stages=8, at_least=5).num_layers == 40
    assert fewer_layers(WHOLE, stages=80, at_least=0).num_layers == 80
    assert fewer_layers(WHOLE, stages=3, at_least=0) == WHOLE


def test_a_check_pays_where_failure_is_likelier_than_its_share_of_the_cost() -> None:
    assert worth_a_check(0.6, share=0.25)
    assert not worth_a_check(0.6, share=0.5)
    assert not worth_a_check(None, share=0.01)


def test_a_correction_widens_the_interval() -> None:
    whole = corrected(Interval(1.0, 0.99, 1.01), 10.0, sigma=0.1)
    assert whole.value == pytest.approx(10.0)
    assert whole.low < 8.3 and whole.high > 12.0


def test_what_passed_or_leads_runs_in_full_once() -> None:
    objective = Objective(metric="step_time_s")
    full, check = trial(0, 0, "full", time_s=2.0), trial(1, 1, "check")
    assert due_in_full([full], objective, 1) is None
    assert due_in_full([full, check], objective, 1) == check
    assert due_in_full([full, check, trial(2, 1, "full", None)], objective, 1) is None
    beyond = trial(1, 1, "check", Outcome.OOM_GPU)
    assert due_in_full([full, beyond], objective, 1) is None
    told_nothing = trial(1, 1, "proxy", Outcome.CRASH)
    assert due_in_full([full, told_nothing], objective, 1) == told_nothing
    leads, trails = trial(3, 2, "proxy", time_s=1.0), trial(4, 3, "proxy", time_s=3.0)
    assert due_in_full([full, trails, leads], objective, 1) == leads
    assert due_in_full([full, trails], objective, 1) is None
    assert due_in_full([full, trails], objective, 2) == trails
    behind = trial(5, 2, "full", time_s=4.0)
    assert due_in_full([full, leads, behind], objective, 1) is None


def test_a_proxy_teaches_until_its_config_ran_in_full() -> None:
    ledger = Ledger(ROWS, Objective(metric="step_time_s"))
    ledger.update([trial(0, 0, "full", time_s=2.0), trial(1, 1, "proxy", time_s=1.0)])
    assert ledger.best is not None and ledger.best[0] == 1
    facts = ledger.memory_facts(80.0, 10)
    assert facts.seen.tolist() == [0, 1]  # an estimated need above the GPU's memory counts
    assert facts.seen_log[1] > 0.0
    ledger.update([trial(2, 1, "full", Outcome.OOM_GPU)])
    assert ledger.ran == [0]
    assert ledger.memory_facts(80.0, 10).beyond.tolist() == [1]


def test_a_smaller_job_that_ran_disproves_no_rule() -> None:
    regions = FailingRegions(ROWS)
    large = ROWS.find({"micro_batch_size": 2, "tensor_model_parallel_size": 1})
    larger = ROWS.find({"micro_batch_size": 4, "tensor_model_parallel_size": 1})
    assert large is not None and larger is not None
    regions.update([(trial(0, large, "full", Outcome.OOM_GPU), large)])
    regions.update([(trial(1, larger, "proxy"), larger)])
    assert regions.rules[0].active
    regions.update([(trial(2, larger, "full"), larger)])
    assert not regions.rules[0].active


def test_a_check_that_fitted_is_no_trial_of_the_row() -> None:
    ledger = Ledger(ROWS, Objective(metric="step_time_s"))
    ledger.update([trial(0, 1, "check"), trial(1, 2, "check", Outcome.OOM_GPU)])
    assert not ledger.visited[1] and ledger.visited[2]
    assert not len(ledger.crashed(10))
