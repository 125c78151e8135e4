"""Who wins: out of the final where one was held, never by one lucky run beside it."""

from __future__ import annotations

from dataclasses import replace

from autotune.controller.standing import best_so_far, result
from autotune.search.finalists import LOSS_PARITY
from autotune.trial import Interval, Measurement, Outcome, TrialKind, TrialRecord


def run(
    number: int, config: str, rate: float, kind: TrialKind = "search", end: bool = True
) -> TrialRecord:
    figure = Interval(rate, rate * 0.95, rate * 1.05)
    measured = Measurement(Interval(1.0, 1.0, 1.0), objective=figure)
    return TrialRecord(
        number, {"c": config}, config, kind=kind, outcome=Outcome.OK, measurement=measured,
        ran_to_end=end,
    )  # fmt: skip


def test_the_winner_comes_out_of_the_final() -> None:
    told = [
        run(0, "base", 10, "baseline"),
        run(1, "a", 20),
        run(2, "lucky", 21),
        run(3, "base", 10, "finalist"),
        run(4, "a", 20, "finalist"),
        run(5, "a", 20, "finalist"),
    ]
    found = result(told)
    assert found.winner is not None and found.winner.values == {"c": "a"}
    assert [tie.values["c"] for tie in found.ties] == ["lucky"]


def test_without_a_final_the_best_whole_run_wins_and_an_early_stop_never_does() -> None:
    found = result(
        [run(0, "base", 10, "baseline"), run(1, "a", 20), run(2, "early", 30, end=False)]
    )
    assert found.winner is not None and found.winner.values == {"c": "a"}


def test_what_learns_something_else_sets_no_bar_for_the_others() -> None:
    cheat = run(1, "cheat", 30)
    assert cheat.measurement is not None
    noted = replace(cheat.measurement, notes=(f"{LOSS_PARITY} a first loss of 5 ...",))
    told = [run(0, "base", 10, "baseline"), replace(cheat, measurement=noted), run(2, "a", 20)]
    best = best_so_far(told)
    assert best is not None and best.values == {"c": "a"}
