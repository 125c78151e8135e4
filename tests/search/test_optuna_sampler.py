"""Our sampler in a plain Optuna script."""

from __future__ import annotations

import optuna
import pytest

from autotune.errors import BadInput
from autotune.search import AutotuneSampler

CHOICES = {"tp": [1, 2, 4, 8], "mbs": [1, 2, 4, 8], "recompute": ["none", "full"]}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def sampler(seed: int = 0) -> AutotuneSampler:
    return AutotuneSampler(CHOICES, legal=lambda v: v["tp"] * v["mbs"] <= 16, seed=seed)


def objective(trial: optuna.Trial) -> float:
    tp = trial.suggest_categorical("tp", CHOICES["tp"])
    mbs = trial.suggest_categorical("mbs", CHOICES["mbs"])
    recompute = trial.suggest_categorical("recompute", CHOICES["recompute"])
    if recompute == "none" and mbs / tp > 2:
        trial.set_constraint("memory", 1.0)
        raise optuna.TrialPruned
    return 100.0 / tp**0.2 * (1.0 - 0.4 / mbs) * (0.75 if recompute == "full" else 1.0)


def test_draws_legal_rows_once_each_and_stops_when_none_is_left() -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler())
    study.optimize(objective, n_trials=100)
    rows = [tuple(t.params.values()) for t in study.trials]
    legal = sum(tp * mbs <= 16 for tp in CHOICES["tp"] for mbs in CHOICES["mbs"]) * 2
    assert len(set(rows)) == legal
    assert len(rows) == legal + 1
    assert all(t.params["tp"] * t.params["mbs"] <= 16 for t in study.trials)


def test_same_seed_same_sequence() -> None:
    sequences = []
    for _ in range(2):
        study = optuna.create_study(direction="maximize", sampler=sampler(4))
        study.optimize(objective, n_trials=10)
        sequences.append([t.params for t in study.trials])
    assert sequences[0] == sequences[1]


def test_parallel_asks_differ() -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler())
    asked = []
    for _ in range(5):
        trial = study.ask()
        asked.append(tuple(trial.suggest_categorical(n, c) for n, c in CHOICES.items()))
    assert len(set(asked)) == 5


def test_minimises_too_and_takes_optuna_distributions() -> None:
    own = AutotuneSampler({"n": optuna.distributions.IntDistribution(1, 9, step=2)})
    study = optuna.create_study(sampler=own)
    study.optimize(lambda t: 1.0 + abs(t.suggest_int("n", 1, 9, step=2) - 7), n_trials=5)
    assert study.best_params == {"n": 7}
    assert len({t.params["n"] for t in study.trials}) == 5


def test_an_undeclared_parameter_is_refused_by_name() -> None:
    study = optuna.create_study(sampler=AutotuneSampler({"n": [1, 2]}))
    with pytest.raises(BadInput, match=r"'m'.*Declare every parameter"):
        study.optimize(lambda t: t.suggest_float("m", 0.0, 1.0), n_trials=1)


def test_endless_domains_are_refused() -> None:
    with pytest.raises(BadInput, match="no finite list"):
        AutotuneSampler({"x": optuna.distributions.FloatDistribution(0.0, 1.0)})


def test_works_over_a_stored_study_opened_again(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    for _ in range(2):
        study = optuna.create_study(
            study_name="s",
            storage=url,
            direction="maximize",
            sampler=sampler(),
            load_if_exists=True,
        )
        study.optimize(objective, n_trials=4)
    rows = [tuple(t.params.values()) for t in study.trials]
    assert len(rows) == len(set(rows)) == 8
