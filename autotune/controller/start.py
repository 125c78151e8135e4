"""A trial made ready to start, its files written, its intent stated; and the watch over its gang.

A controller that dies between the two leaves a token by which the next one looks for the gang.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from autotune.controller.failpoints import failpoint
from autotune.controller.judge import now
from autotune.controller.setting import Setting
from autotune.controller.timers import HangTimer
from autotune.controller.watch import Watch
from autotune.controller.write_job import job_from_json, write_job
from autotune.errors import BadInput
from autotune.launchers import Request
from autotune.search.steady import SteadyState
from autotune.study.intents import Intent, new_token
from autotune.study.record import Study
from autotune.trial import TrialRecord


@dataclass(frozen=True)
class Start:
    """What one trial's gang is started from."""

    record: TrialRecord
    intent: Intent
    request: Request


def prepare_start(study: Study, setting: Setting, record: TrialRecord) -> Start:
    """Render a trial, write its files and state the intent to launch it.

    Raises BadInput when its config is no longer legal; StorageAway.
    """
    before = study.intent(record.number)
    paths = study.paths.trial(record.number, before.attempt)
    lease = study.lease
    intent = dataclasses.replace(
        before,
        state="launching",
        token=new_token(),
        epoch=lease.epoch if lease else 0,
        handle={},
    )
    index = setting.legal.find(record.values)
    if index is None:
        raise BadInput(f"trial {record.number}: its config is no longer in the legal set")
    config = setting.legal.config(index)
    job = setting.render(config, paths.folder, fidelity=record.fidelity, seed=record.seed)
    record = dataclasses.replace(record, started_at=now(), attempt=before.attempt)
    write_job(job, paths)
    study.save_chosen(record, before.attempt)
    study.set_intent(record.number, intent)
    failpoint("after_intent")
    return Start(record, intent, Request(job, paths.folder, intent.token))


def watch_over(
    study: Study, setting: Setting, record: TrialRecord, intent: Intent, adopted: bool = False
) -> Watch:
    """Watch a gang that was started by this controller or by one before it."""
    paths = study.paths.trial(record.number, intent.attempt)
    job = job_from_json(paths)
    index = setting.legal.find(record.values)
    config = setting.legal.config(index) if index is not None else None
    assert config is not None
    trial = setting.space.trial
    return Watch(
        record,
        intent,
        job,
        paths,
        setting.launcher,
        setting.framework(config).log_format(setting.space),
        SteadyState(setting.workload(config, job, record.fidelity), setting.step_limits()),
        HangTimer(trial.startup_grace_s, trial.hang_floor_s),
        may_stop_early=record.kind in ("search", "audit")
        and record.fidelity != "target"
        and trial.stop_early,
        kill_grace_s=trial.kill_grace_s,
        adopted=adopted,
    )
