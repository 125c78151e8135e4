"""What one failure rules out, and what brings it back."""

from __future__ import annotations

from autotune.search.regions import FailingRegions
from autotune.search.rows import FiniteRows
from autotune.trial import Outcome, TrialRecord
from tests.search.conftest import MadeUpCluster


def told(number: int, legal: FiniteRows, row: int, outcome: Outcome, **facts) -> TrialRecord:
    config = legal.config(row)
    return TrialRecord(number, config.values, config.hash, outcome=outcome, **facts)


def row_of(legal: FiniteRows, tp: int, pp: int, mbs: int, recompute: str) -> int:
    row = legal.find(
        {
            "tensor_model_parallel_size": tp,
            "pipeline_model_parallel_size": pp,
            "micro_batch_size": mbs,
            "recompute_granularity": recompute,
        }
    )
    assert row is not None
    return row


def test_out_of_memory_rules_out_what_needs_more_and_nothing_else(legal: FiniteRows) -> None:
    regions = FailingRegions(legal)
    witness = row_of(legal, 2, 2, 2, "full")
    regions.update([(told(4, legal, witness, Outcome.OOM_GPU), witness)])
    ruled = regions.excluded("memory") >= 0
    assert ruled[row_of(legal, 1, 2, 4, "none")]
    assert ruled[row_of(legal, 2, 2, 2, "none")]
    assert not ruled[row_of(legal, 4, 2, 2, "full")]
    assert not ruled[row_of(legal, 2, 2, 1, "full")]
    assert not ruled[row_of(legal, 2, 4, 2, "full")]
    assert not ruled[row_of(legal, 2, 1, 4, "none")], "pipeline depth is structure"
    (rule,) = regions.rules
    assert rule.witness == 4 and "trial 4" in rule.reason
    assert rule.count == int(ruled.sum()) - 1


def test_everything_ruled_out_would_have_run_out_of_memory(cluster: MadeUpCluster) -> None:
    regions = FailingRegions(cluster.legal)
    for row in range(len(cluster.legal)):
        regions.update([(cluster.run(row), row)])
    assert not any(rule.withdrawn_by is not None for rule in regions.rules)


def test_a_success_inside_a_rule_withdraws_it(legal: FiniteRows) -> None:
    regions = FailingRegions(legal)
    witness, inside = row_of(legal, 4, 1, 2, "full"), row_of(legal, 2, 1, 4, "none")
    regions.update([(told(0, legal, witness, Outcome.OOM_GPU), witness)])
    assert regions.excluded("memory")[inside] == 0
    regions.update([(told(1, legal, inside, Outcome.OK), inside)])
    assert regions.rules[0].withdrawn_by == 1
    assert (regions.excluded("memory") < 0).all()


def test_an_earlier_success_keeps_a_rule_from_being_made(legal: FiniteRows) -> None:
    regions = FailingRegions(legal)
    witness, inside = row_of(legal, 4, 1, 2, "full"), row_of(legal, 2, 1, 4, "none")
    regions.update(
        [
            (told(0, legal, inside, Outcome.OK), inside),
            (told(1, legal, witness, Outcome.OOM_GPU), witness),
        ]
    )
    assert regions.rules[0].withdrawn_by == 0
    assert (regions.excluded("memory") < 0).all()


def test_a_failure_inside_a_rule_audits_it(legal: FiniteRows) -> None:
    regions = FailingRegions(legal)
    witness, inside = row_of(legal, 4, 1, 2, "full"), row_of(legal, 2, 1, 4, "none")
    regions.update([(told(0, legal, witness, Outcome.OOM_GPU), witness)])
    regions.update([(told(1, legal, inside, Outcome.OOM_GPU), inside)])
    assert len(regions.rules) == 1
    assert regions.rules[0].audited_by == 1


def test_host_memory_and_infrastructure_rule_out_nothing(legal: FiniteRows) -> None:
    regions = FailingRegions(legal)
    for number, outcome in enumerate(
        (Outcome.OOM_HOST, Outcome.INFRA, Outcome.CRASH, Outcome.HANG, Outcome.TIMEOUT)
    ):
        regions.update([(told(number, legal, number, outcome), number)])
    assert regions.rules == []


def test_a_refusal_rules_out_the_values_that_it_names(legal: FiniteRows) -> None:
    regions = FailingRegions(legal)
    row = row_of(legal, 8, 1, 1, "none")
    record = told(
        0, legal, row, Outcome.INVALID_CONFIG, parameters_named=("tensor_model_parallel_size",)
    )
    regions.update([(record, row)])
    tp = legal.column("tensor_model_parallel_size")
    assert ((regions.excluded("legality") >= 0) == (tp == 8)).all()
    assert "tensor_model_parallel_size=8" in regions.rules[0].reason


def test_a_refusal_by_one_framework_says_nothing_of_another() -> None:
    both = FiniteRows.product({"framework": ["deepspeed", "megatron"], "micro_batch_size": [1, 2]})
    regions = FailingRegions(both)
    record = told(
        0, both, 0, Outcome.INVALID_CONFIG, parameters_named=("micro_batch_size", "nobody_knows")
    )
    regions.update([(record, 0)])
    assert (regions.excluded("legality") >= 0).sum() == 1
    unknown = told(1, both, 3, Outcome.INVALID_CONFIG, parameters_named=("nobody_knows",))
    regions.update([(unknown, 3)])
    assert (regions.excluded("legality") >= 0).sum() == 2


def test_a_refusal_that_names_nothing_rules_out_itself_alone(legal: FiniteRows) -> None:
    regions = FailingRegions(legal)
    regions.update([(told(0, legal, 5, Outcome.INVALID_CONFIG), 5)])
    assert (regions.excluded("legality") >= 0).sum() == 1


def test_a_derived_size_stands_for_the_parameters_it_follows_from(legal: FiniteRows) -> None:
    regions = FailingRegions(legal)
    row = row_of(legal, 4, 2, 1, "none")
    record = told(0, legal, row, Outcome.INVALID_CONFIG, parameters_named=("data_parallel_size",))
    regions.update([(record, row)])
    tp, pp = (legal.column(f"{k}_model_parallel_size") for k in ("tensor", "pipeline"))
    assert ((regions.excluded("legality") >= 0) == ((tp == 4) & (pp == 2))).all()
