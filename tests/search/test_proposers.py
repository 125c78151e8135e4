"""Every proposer keeps the same promises, whoever wrote the sampler behind it."""

from __future__ import annotations

import dataclasses

import pytest

from autotune.errors import BadInput
from autotune.search import make_proposer, sampler_names
from autotune.search.rows import FiniteRows
from autotune.trial import Outcome
from tests.search.conftest import MadeUpCluster

NAMES = [name for name in sampler_names() if name != "gp"]


def proposer_or_skip(name: str, legal: FiniteRows, seed: int = 0):
    try:
        return make_proposer(name, None, legal, None, seed)
    except BadInput as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", NAMES)
def test_runs_every_legal_row_once_then_gives_up(name: str, cluster: MadeUpCluster) -> None:
    proposer = proposer_or_skip(name, cluster.legal)
    rows = cluster.search(proposer, len(cluster.legal) + 5)
    assert sorted(rows) == list(range(len(cluster.legal)))
    assert proposer.propose(cluster.trials, []) is None


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_sequence(name: str, legal: FiniteRows) -> None:
    first = MadeUpCluster(legal).search(proposer_or_skip(name, legal, 7), 12)
    second = MadeUpCluster(legal).search(proposer_or_skip(name, legal, 7), 12)
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_pending_rows_are_not_proposed_again(name: str, cluster: MadeUpCluster) -> None:
    proposer = proposer_or_skip(name, cluster.legal)
    pending: list[int] = []
    for _ in range(6):
        proposal = proposer.propose(cluster.trials, pending)
        assert proposal is not None
        assert proposal.index not in pending
        pending.append(proposal.index)


def test_the_gaussian_process_of_optuna_is_within_reach(cluster: MadeUpCluster) -> None:
    rows = cluster.search(make_proposer("gp", None, cluster.legal, None, 0), 4)
    assert len(set(rows)) == 4


@pytest.mark.parametrize("name", ["autotune", "random", "tpe"])
def test_a_resumed_search_goes_on_alike(name: str, legal: FiniteRows) -> None:
    whole = MadeUpCluster(legal)
    straight = whole.search(make_proposer(name, None, legal, None, 3), 10)
    broken = MadeUpCluster(legal)
    broken.search(make_proposer(name, None, legal, None, 3), 5)
    resumed = make_proposer(name, None, legal, None, 3)
    assert broken.search(resumed, 5) == straight[5:]


def test_infra_failures_teach_nothing(cluster: MadeUpCluster) -> None:
    proposer = make_proposer("autotune", None, cluster.legal, None, 0)
    first = proposer.propose([], [])
    assert first is not None
    before = proposer.predict(first.index)  # type: ignore[attr-defined]
    lost = dataclasses.replace(cluster.run(first.index), outcome=Outcome.INFRA, measurement=None)
    proposer.propose([lost], [])
    after = proposer.predict(first.index)  # type: ignore[attr-defined]
    assert after == before


def test_an_unknown_name_lists_the_known_ones(legal: FiniteRows) -> None:
    with pytest.raises(BadInput, match=r"Did you mean 'random'.*autotune.*tpe"):
        make_proposer("randon", None, legal)


def test_ours_finds_the_best_sooner_than_chance_without_any_model(legal: FiniteRows) -> None:
    cluster = MadeUpCluster(legal)
    cluster.search(make_proposer("autotune", None, legal, None, 0), 8)
    found = min(t.measurement.step_time_s.value for t in cluster.trials if t.measurement)
    assert found <= cluster.best() * 1.02


def test_every_config_never_run_has_a_reason(cluster: MadeUpCluster) -> None:
    proposer = make_proposer("autotune", None, cluster.legal, None, 0)
    rows = cluster.search(proposer, 12)
    skipped = list(proposer.skipped(cluster.trials))
    assert sorted([*rows, *(s.index for s in skipped)]) == list(range(len(cluster.legal)))
    assert all(s.reason for s in skipped)
    for s in skipped:
        if s.kind == "dominated":
            assert cluster.trials[s.witness].outcome is Outcome.OOM_GPU
            assert cluster.memory_gib(s.index) > 40.0


def test_the_study_ends_by_itself_near_the_best(legal: FiniteRows) -> None:
    cluster = MadeUpCluster(legal)
    proposer = make_proposer("autotune", None, legal, None, 0)
    while proposer.finished(cluster.trials) is None and len(cluster.trials) < len(legal):
        proposal = proposer.propose(cluster.trials, [])
        assert proposal is not None
        cluster.run(proposal.index)
    found = min(t.measurement.step_time_s.value for t in cluster.trials if t.measurement)
    assert found <= cluster.best() * 1.02
    assert len(cluster.trials) < len(legal)
