"""A small made-up cluster: a legal set, a step time and a memory for each row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from autotune.config import ParameterValue
from autotune.search import Proposer
from autotune.search.rows import FiniteRows
from autotune.trial import Interval, Measurement, Outcome, TrialRecord

CAPACITY_GIB = 40.0


def is_legal(values: Mapping[str, ParameterValue]) -> bool:
    tp, pp = int(values["tensor_model_parallel_size"]), int(values["pipeline_model_parallel_size"])
    return tp * pp <= 16


@dataclass
class MadeUpCluster:
    """Runs rows by a formula; ``trials`` is what a study would remember."""

    legal: FiniteRows
    trials: list[TrialRecord] = field(default_factory=list)

    def step_time_s(self, row: int) -> float:
        v = self.legal.config(row).values
        tp, pp = v["tensor_model_parallel_size"], v["pipeline_model_parallel_size"]
        slow = 1.35 if v["recompute_granularity"] == "full" else 1.0
        return slow * (
            1 + 0.12 * math.log2(tp) + 0.08 * math.log2(pp) + 0.3 / v["micro_batch_size"]
        )

    def memory_gib(self, row: int) -> float:
        v = self.legal.config(row).values
        sharding = v["tensor_model_parallel_size"] * v["pipeline_model_parallel_size"]
        kept = 4.0 if v["recompute_granularity"] == "full" else 14.0
        return 60.0 / sharding + kept * v["micro_batch_size"] / v["tensor_model_parallel_size"]

    def best(self) -> float:
        rows = range(len(self.legal))
        return min(self.step_time_s(r) for r in rows if self.memory_gib(r) <= CAPACITY_GIB)

    def run(self, row: int, kind: str = "search") -> TrialRecord:
        config, time, memory = self.legal.config(row), self.step_time_s(row), self.memory_gib(row)
        fits = memory <= CAPACITY_GIB
        rate = 1e6 / time
        measurement = Measurement(
            Interval(time, time * 0.99, time * 1.01),
            Interval(rate, rate * 0.99, rate * 1.01),
            peak_memory_gib=memory,
            objective=Interval(rate, rate * 0.99, rate * 1.01),
        )
        record = TrialRecord(
            len(self.trials),
            config.values,
            config.hash,
            kind=kind,  # type: ignore[arg-type]
            outcome=Outcome.OK if fits else Outcome.OOM_GPU,
            measurement=measurement if fits else None,
            ran_to_end=True,
        )
        self.trials.append(record)
        return record

    def search(self, proposer: Proposer, most: int) -> list[int]:
        rows: list[int] = []
        for _ in range(most):
            proposal = proposer.propose(self.trials, [])
            if proposal is None:
                break
            rows.append(proposal.index)
            self.run(proposal.index)
        return rows


@pytest.fixture
def legal() -> FiniteRows:
    return FiniteRows.product(
        {
            "tensor_model_parallel_size": [1, 2, 4, 8],
            "pipeline_model_parallel_size": [1, 2, 4],
            "micro_batch_size": [1, 2, 4],
            "recompute_granularity": ["none", "full"],
        },
        is_legal,
    )


@pytest.fixture
def cluster(legal: FiniteRows) -> MadeUpCluster:
    return MadeUpCluster(legal)
