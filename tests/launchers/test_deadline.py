"""A gang's limit waits for what is prepared, and not for ever."""

from __future__ import annotations

from autotune.launchers.deadline import LONGEST_PREPARATION_S, Deadline


def test_the_time_of_a_preparation_is_added_to_the_limit() -> None:
    deadline = Deadline(started_s=100.0, limit_s=60.0)
    deadline.look(["gang.json", "preparing.3"], 110.0)
    deadline.look(["preparing.0"], 400.0)
    deadline.look(["gang.json"], 500.0)
    assert not deadline.passed(549.0)
    assert deadline.passed(550.0)


def test_a_preparation_that_never_ends_is_not_waited_for_for_ever() -> None:
    deadline = Deadline(started_s=0.0, limit_s=60.0)
    for now in (0.0, LONGEST_PREPARATION_S, LONGEST_PREPARATION_S + 60.0):
        deadline.look(["preparing.0"], now)
    assert deadline.passed(LONGEST_PREPARATION_S + 60.0)
