"""F12: the database goes away in the middle; gangs go on, results wait on disk, nothing is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from subprocess import Popen

from tests.controller.conftest import Cli
from tests.engines.postgres import Postgres, postgres
from tests.faults.conftest import folder_of, leftovers, wait_for_trials

__all__ = ["postgres"]


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
    trials = slow.json("status", "s")["trials"]
    assert [trial["outcome"] for trial in trials] == ["ok"] * 6
    assert leftovers(folder) == []
