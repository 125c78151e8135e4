"""When a study ends, by each of its budgets; and a sampler that nobody knows."""

from __future__ import annotations

import pytest

from tests.controller.conftest import Cli

RUN = ("run", "--space", "job.yaml", "--study", "s", "--set", "budget.finalists=0")


def ended(cli: Cli) -> str:
    return str(cli.json("status", "s")["ended"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--trials", "2"), "budget of 2 trials"),
        (("--set", "budget.gpu_hours=1e-9"), "GPU-hours is spent"),
        (("--set", "budget.wall_time_s=0.001"), "s is spent"),
    ],
)
def test_a_spent_budget_ends_the_study(cli: Cli, words: tuple[str, ...], why: str) -> None:
    cli(*RUN, "--sampler", "grid", *words)
    assert why in ended(cli)
    assert 1 <= len(cli.json("status", "s")["trials"]) <= 2


def test_a_study_ends_when_every_config_was_measured(cli: Cli) -> None:
    cli(*RUN, "--set", "parameters.mode.values=[ok]")
    assert ended(cli) == "every legal config was measured"


def test_an_unknown_sampler_lists_the_known_ones_and_starts_nothing(cli: Cli) -> None:
    said = cli(*RUN, "--sampler", "tpee", expect=2).stderr
    assert "tpee" in said and all(name in said for name in ("autotune", "gp", "grid", "tpe"))
    assert cli.json("status") == []
