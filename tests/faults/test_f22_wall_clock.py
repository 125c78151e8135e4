"""F22: the wall clock jumps; durations are monotonic and the lease keeps the database's time."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from autotune.controller import Controller, Options, prepare
from autotune.study.paths import StudyPaths
from autotune.study.record import Study
from tests.controller.conftest import Cli


def test_f22_jumping_by_days(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOTUNE_HOME", cli.env["AUTOTUNE_HOME"])
    monkeypatch.chdir(cli.folder)
    setting = prepare(
        "job.yaml", ("budget.trials=3", "budget.finalists=0"), Options(sampler="random")
    )
    study = Study.create(StudyPaths.named("s"), setting.space.to_yaml(), {})
    study.hold()
    jumps = itertools.cycle([0.0, 86400.0, -86400.0, 3.2e7])
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    begun = time.monotonic()
    Controller(study, setting).run()
    passed = time.monotonic() - begun
    records = study.records()
    assert len(records) == 3
    assert all(0.0 < record.seconds <= passed for record in records)
    assert study.still_held()
    study.close()
