"""A study that an earlier version made opens in this one and in every later one.

``fixtures/VERSION`` are studies as that version left them; add one with every release:
run a small space, stop one trial in the middle, keep study.json, space.yaml, study.db and the
trials' chosen.json and result.json.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autotune.controller.standing import result
from autotune.space import load_space
from autotune.study.paths import StudyPaths
from autotune.study.record import Study
from autotune.study.repair import damage, trials_on_disk
from autotune.trial import Outcome

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(params=sorted(path.name for path in FIXTURES.iterdir()))
def paths(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StudyPaths:
    monkeypatch.setenv("AUTOTUNE_HOME", str(tmp_path))
    made = StudyPaths.named("old")
    shutil.copytree(FIXTURES / request.param, made.folder)
    return made


def test_it_opens_with_every_trial_and_its_winner(paths: StudyPaths) -> None:
    study = Study.open(paths)
    records = study.records()
    assert [record.number for record in records] == list(range(len(records)))
    assert records[0].kind == "baseline"
    assert {record.outcome for record in records} >= {Outcome.OK, Outcome.CRASH, None}
    assert all(record.prediction is not None for record in records)
    found = result(records)
    assert found.winner is not None and found.gain is not None and found.gain.value > 1.0


def test_its_space_still_loads_and_its_files_still_tell(paths: StudyPaths) -> None:
    space = load_space(str(paths.space))
    assert space.baseline
    told = [record for record in trials_on_disk(paths) if record.finished]
    assert {record.number for record in told} == {
        record.number for record in Study.open(paths).records() if record.finished
    }
    assert damage(paths.database) is None
