"""The final: turns with the baseline, until someone stands apart or it is a tie."""

from __future__ import annotations

from autotune.config import Config
from autotune.search.finalists import LOSS_PARITY, ROUNDS, next_finalist
from autotune.trial import Interval, Measurement, Outcome, TrialKind, TrialRecord


def trial(
    name: str,
    value: float,
    kind: TrialKind = "search",
    outcome: Outcome = Outcome.OK,
    notes: tuple[str, ...] = (),
) -> TrialRecord:
    config = Config({"name": name})
    figure = Interval(value, value * 0.98, value * 1.02)
    measurement = Measurement(Interval(1.0, 1.0, 1.0), objective=figure, notes=notes)
    return TrialRecord(
        0, config.values, config.hash, kind=kind, outcome=outcome,
        measurement=measurement if outcome is Outcome.OK else None,
    )  # fmt: skip


def play(told: list[TrialRecord], speeds: dict[str, list[float]], finalists: int = 2) -> list[str]:
    turns: list[str] = []
    while (choice := next_finalist(told, finalists)) is not None:
        name = str(choice[0]["name"])
        turns.append(name)
        told.append(trial(name, speeds[name].pop(0), "finalist"))
        assert len(turns) < 50
    return turns


SEARCH = [trial("base", 100, "baseline"), trial("a", 130), trial("b", 129), trial("c", 60)]


def test_finalists_take_turns_with_the_baseline_and_the_slow_take_no_part() -> None:
    speeds = {"base": [100, 101, 100], "a": [130, 131, 130], "b": [120, 119, 121]}
    turns = play(list(SEARCH), speeds)
    assert turns[:3] == ["base", "a", "b"]
    assert "c" not in turns
    assert len(turns) == 6, "two turns each separate them"


def test_no_gpu_time_goes_to_a_rival_that_is_far_behind() -> None:
    speeds = {"base": [100, 101], "a": [130, 131], "b": [129, 128]}
    assert set(play(list(SEARCH), speeds, finalists=3)) == {"base", "a", "b"}


def test_a_leader_that_was_luck_lets_the_others_back_in() -> None:
    told = [SEARCH[0], trial("a", 200), trial("b", 129)]
    speeds = {"base": [100] * 3, "a": [130, 131, 130], "b": [129, 131, 130]}
    assert play(told, speeds).count("b") == ROUNDS


def test_a_rival_that_was_near_once_stays_through_a_bad_turn() -> None:
    speeds = {"base": [100] * 3, "a": [131, 130, 132], "b": [90, 131, 130]}
    assert play(list(SEARCH), speeds).count("b") == ROUNDS


def test_rivals_that_overlap_stop_at_a_tie() -> None:
    speeds = {"base": [100] * 5, "a": [128, 132, 130], "b": [131, 128, 129]}
    turns = play(list(SEARCH), speeds)
    assert turns.count("a") == turns.count("b") == ROUNDS


def test_a_finalist_that_fails_is_out() -> None:
    told = [*SEARCH, trial("a", 0, "finalist", Outcome.OOM_GPU)]
    speeds = {"base": [100, 100, 100], "b": [120, 120, 120]}
    assert "a" not in play(told, speeds)


def test_what_learns_something_else_cannot_win() -> None:
    told = [SEARCH[0], trial("a", 130, notes=(f"{LOSS_PARITY} off",)), SEARCH[2]]
    speeds = {"base": [100, 100, 100], "b": [120, 120, 120]}
    assert "a" not in play(told, speeds)


def test_infrastructure_failures_bar_nobody() -> None:
    told = [*SEARCH, trial("a", 0, "finalist", Outcome.INFRA)]
    choice = next_finalist(told, 2)
    assert choice is not None


def test_there_is_no_final_without_finalists_or_rivals() -> None:
    assert next_finalist(SEARCH, 0) is None
    assert next_finalist(SEARCH[:1], 3) is None
    assert next_finalist([], 3) is None
