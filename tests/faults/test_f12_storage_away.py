"""F12: the database goes away in the middle; gangs go on, results wait on disk, nothing is lost."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from subprocess import Popen
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError

from autotune.controller import Controller, Options, prepare
from autotune.study.paths import StudyPaths
from autotune.study.record import Study
from tests.controller.conftest import Cli
from tests.engines.postgres import Postgres, postgres
from tests.faults.conftest import assert_whole, check_invariants, folder_of, wait_for_trials

__all__ = ["postgres"]
WRITES = (
    "create_new_trial",
    "set_trial_system_attr",
    "set_trial_user_attr",
    "set_trial_state_values",
    "set_study_user_attr",
)


@pytest.mark.parametrize("answer_lost", [False, True])
def test_f12_every_write_fails_once(
    slow: Cli, monkeypatch: pytest.MonkeyPatch, answer_lost: bool
) -> None:
    """Whichever write meets the outage, and whether or not it was done: once each, none lost."""
    monkeypatch.setenv("AUTOTUNE_HOME", slow.env["AUTOTUNE_HOME"])
    monkeypatch.chdir(slow.folder)
    setting = prepare("slow.yaml", ("budget.trials=3",), Options(sampler="random"))
    settings = {"options": setting.options.to_json()}
    study = Study.create(StudyPaths.named("s"), setting.space.to_yaml(), settings)
    study.hold()
    controller = Controller(study, setting)
    monkeypatch.setattr(random, "uniform", lambda *_: 0.01)
    failed = Counter[str]()

    def once(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        seen: set[tuple[int, str]] = set()

        def write(*arguments: Any) -> Any:
            target, what = arguments[:2]
            key = (target, str(getattr(what, "params", what)))
            fails = key not in seen
            seen.add(key)
            failed[name] += fails
            if fails and not answer_lost:
                raise StorageInternalError("the connection was cut")
            answer = real(*arguments)
            if fails:
                raise StorageInternalError("the answer was lost")
            return answer

        return write

    for name in WRITES:
        monkeypatch.setattr(study.storage, name, once(name, getattr(study.storage, name)))
    controller.run()
    assert all(failed[name] for name in WRITES)
    assert study.noted("ended") == "the budget of 3 trials is spent"
    study.close()
    monkeypatch.undo()
    assert_whole(check_invariants(slow, "s"), 3)


def test_f12_postgresql_away_for_a_while(
    slow: Cli, started: Callable[..., Popen[str]], postgres: Postgres
) -> None:
    slow.env["AUTOTUNE_STORAGE"] = postgres.database("f12")
    run = started("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random")
    wait_for_trials(slow, "s", 2)
    postgres.stop()
    time.sleep(5)
    folder = folder_of(slow, "s")
    waiting = [json.loads(path.read_text()) for path in folder.glob("trials/*/result.json")]
    assert len(waiting) >= 2
    postgres.start()
    _, said = run.communicate(timeout=120)
    assert run.returncode == 0, said
    assert "answers again" in said
    assert_whole(check_invariants(slow, "s"))
