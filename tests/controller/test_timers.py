"""Silence is a hang only where the run itself has shown nothing like it."""

from __future__ import annotations

from autotune.controller.timers import HangTimer


def silent_after(arrivals: list[float]) -> HangTimer:
    timer = HangTimer(startup_grace_s=600.0, floor_s=60.0)
    timer.start(0.0)
    for arrival in arrivals:
        timer.progressed(arrival)
    return timer


def test_steady_steps_then_silence_for_longer_than_the_floor_is_a_hang() -> None:
    timer = silent_after([40.0 + 0.3 * step for step in range(17)])
    assert not timer.expired(44.8 + 59.0)
    assert timer.expired(44.8 + 61.0)


def test_a_step_that_was_compiled_anew_makes_another_such_plausible() -> None:
    first, second = 44.0, 114.3  # as seen on two H100: the second step compiled again, for 70 s
    timer = silent_after([first, *(second + 0.3 * step for step in range(16))])
    last = second + 0.3 * 15
    assert not timer.expired(last + 139.0)
    assert timer.expired(last + 141.0)
