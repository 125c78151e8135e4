"""A trial made ready to start: its files written and its intent stated, nothing running yet.

A controller that dies from here on leaves a token by which the next one looks for the gang.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from autotune.controller.failpoints import failpoint
from autotune.controller.judge import now
from autotune.controller.setting import Setting
from autotune.controller.write_job import write_job
from autotune.errors import BadInput
from autotune.launchers import Request
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
