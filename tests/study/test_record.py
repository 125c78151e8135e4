"""The record: what is written is what is read, in one folder, privately, through real storages."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna_dashboard._serializer import serialize_frozen_trial

from autotune.config import Config
from autotune.errors import BadInput
from autotune.study.codec import record_from_json, record_to_json
from autotune.study.intents import Intent
from autotune.study.paths import StudyPaths
from autotune.study.record import Study
from autotune.trial import Interval, Measurement, Outcome, Prediction, TrialRecord

DISTRIBUTIONS = {
    "micro_batch_size": CategoricalDistribution([1, 2, 4]),
    "recompute_method": CategoricalDistribution(["uniform", "block"]),
}
CONFIG = Config({"micro_batch_size": 2, "recompute_method": None})


@pytest.fixture(params=["sqlite", "journal"])
def study(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("AUTOTUNE_HOME", str(tmp_path))
    url = None if request.param == "sqlite" else f"journal://{tmp_path}/journal.log"
    return Study.create(StudyPaths.named("one"), "name: one\n", {"direction": "maximize"}, url)


def add(study: Study) -> TrialRecord:
    return study.add(
        CONFIG,
        DISTRIBUTIONS,
        kind="search",
        reason="because",
        prediction=Prediction(step_time_s=1.5),
        simulated=False,
    )


def finished(record: TrialRecord, outcome: Outcome = Outcome.OK) -> TrialRecord:
    measurement = Measurement(
        Interval(2.0, 1.9, 2.1),
        objective=Interval(50.0, 48.0, 52.0),
        first_losses=(1.0, float("nan")),
    )
    return dataclasses.replace(
        record,
        outcome=outcome,
        measurement=measurement if outcome is Outcome.OK else None,
        evidence=("line",),
        seconds=3.0,
    )


def test_codec_round_trip_keeps_everything_but_nan() -> None:
    record = finished(TrialRecord(3, {"a": 1, "b": None}, "hash", prediction=Prediction(1.0)))
    again = record_from_json(record_to_json(record))
    assert again.measurement is not None and again.measurement.first_losses[0] == 1.0
    assert dataclasses.replace(again, measurement=None) == dataclasses.replace(
        record, measurement=None
    )


def test_a_told_trial_is_read_back_equal(study: Study) -> None:
    record = finished(add(study))
    assert study.tell(record)
    again = Study.open(study.paths, study.url)
    assert again.record(0).measurement == dataclasses.replace(
        record.measurement,
        first_losses=again.record(0).measurement.first_losses,  # type: ignore
    )
    assert again.record(0).values == dict(CONFIG.values)


def test_told_once(study: Study) -> None:
    record = finished(add(study))
    assert study.tell(record)
    assert not study.tell(finished(record, Outcome.CRASH))
    assert Study.open(study.paths, study.url).record(0).outcome is Outcome.OK


def test_an_unfinished_trial_keeps_choice_and_intent(study: Study) -> None:
    add(study)
    study.set_intent(0, Intent("running", token="t", handle={"pid": 1}))
    again = Study.open(study.paths, study.url)
    record = again.record(0)
    assert (record.reason, record.prediction.step_time_s, record.outcome) == ("because", 1.5, None)
    assert again.intent(0) == Intent("running", token="t", handle={"pid": 1})


@pytest.mark.parametrize(
    ("outcome", "state", "violated"),
    [
        (Outcome.OK, "COMPLETE", {"memory": 0.0, "legality": 0.0}),
        (Outcome.OOM_GPU, "PRUNED", {"memory": 1.0, "legality": 0.0}),
        (Outcome.INVALID_CONFIG, "PRUNED", {"memory": 0.0, "legality": 1.0}),
        (Outcome.CRASH, "FAIL", {}),
        (Outcome.INFRA, "FAIL", {}),
    ],
)
def test_outcomes_as_optuna_states_and_constraints(
    study: Study, outcome: Outcome, state: str, violated: dict[str, float]
) -> None:
    study.tell(finished(add(study), outcome))
    trial = optuna.load_study(study_name="one", storage=study.storage).trials[0]
    assert trial.state.name == state
    ours = {k: v for k, v in trial.constraints.items() if k in ("memory", "legality")}
    assert ours == violated
    assert trial.params == {"micro_batch_size": 2}


def test_the_dashboard_still_needs_constraints_told_its_own_way() -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.set_constraint("memory", 1.0)
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    shown = serialize_frozen_trial(0, study.trials[0], {})
    assert shown["constraints"] == [], (
        "optuna-dashboard reads Optuna's own constraints now: drop DASHBOARD_ATTRIBUTE"
    )


def test_files_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTUNE_HOME", str(tmp_path))
    study = Study.create(StudyPaths.named("one"), "name: one\n", {})
    record = add(study)
    study.paths.trial(0).folder.mkdir(mode=0o700)
    study.save_result(finished(record), 1)
    for path in [study.paths.folder, *study.paths.folder.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path} is {mode:o}"


def test_a_taken_name_offers_resume(study: Study) -> None:
    with pytest.raises(BadInput, match="autotune resume one"):
        Study.create(StudyPaths.named("one"), "name: one\n", {}, study.url)


def test_an_unknown_study_lists_the_known(study: Study) -> None:
    with pytest.raises(BadInput, match="Known: one"):
        Study.open(StudyPaths.named("two"))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a" * 200, "x\n"])
def test_names_that_could_leave_the_home(name: str) -> None:
    with pytest.raises(BadInput, match="not usable"):
        StudyPaths.named(name)


def test_set_aside_keeps_the_old_study(study: Study) -> None:
    study.tell(finished(add(study)))
    study.close()
    study.set_aside("one-1")
    old = Study.open(StudyPaths.named("one-1"))
    assert old.record(0).outcome is Outcome.OK
    assert not StudyPaths.named("one").exists()


def test_few_writing_commits_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import event

    monkeypatch.setenv("AUTOTUNE_HOME", str(tmp_path))
    study = Study.create(StudyPaths.named("one"), "name: one\n", {})
    commits = 0

    def count(_connection: object) -> None:
        nonlocal commits
        commits += 1

    event.listen(study.storage.engine, "commit", count)  # type: ignore[attr-defined]
    record = add(study)
    study.set_intent(0, Intent("launching"))
    study.set_intent(0, Intent("running"))
    study.tell(finished(record))
    assert commits <= 12
