"""What a controller does first: walk what the last one left, and lose none of it.

intent     files and processes found                what happens
chosen     -                                        launched, same trial, no new sample
launching  a gang with the token                    adopted
           none                                     launched
running    a result file                            told
           the gang lives, or its exit record is there   adopted: watched to its verdict;
                                                    requeued if the last one had cancelled it
           neither                                  reaped and requeued, at most twice
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from autotune.controller.judge import now
from autotune.controller.start import watch_over
from autotune.launchers import sound_handle
from autotune.study.codec import record_from_json
from autotune.study.intents import Intent
from autotune.study.paths import read_json
from autotune.trial import Outcome, TrialRecord

if TYPE_CHECKING:
    from autotune.controller.loop import Controller

INTERRUPTIONS = 2
REAP_BOUND_S = 20.0


def pick_up(controller: Controller) -> None:
    """Sort every unfinished trial into told, adopted, or queued to run again."""
    for record in controller.study.records():
        if not record.finished:
            _pick_up_one(controller, record, controller.study.intent(record.number))


def take_in_appeared(controller: Controller) -> None:
    """Queue what a storage that went away had created and not answered for, after an outage."""
    for record in controller.study.appeared():
        if not record.finished:
            controller.queue.append(_with_all_values(controller, record))


def _pick_up_one(controller: Controller, record: TrialRecord, intent: Intent) -> None:
    told = _result_on_disk(controller, record, intent)
    if told is not None:
        controller.untold.append((told, intent))
        controller.listener.message(f"trial {record.number}: its result was on disk; told now")
        return
    if intent.state == "chosen":
        controller.queue.append(_with_all_values(controller, record))
        return
    folder = controller.study.paths.trial(record.number, intent.attempt).folder
    launcher = controller.setting.launcher
    handle = sound_handle(intent.handle, launcher) or launcher.find(folder, intent.token)
    if handle:
        adopted = dataclasses.replace(intent, state="running", handle=handle)
        if launcher.poll(handle).state != "lost":
            controller.study.set_intent(record.number, adopted)
            full = dataclasses.replace(_with_all_values(controller, record), attempt=intent.attempt)
            watch = watch_over(controller.study, controller.setting, full, adopted, adopted=True)
            controller.running.append(watch)
            controller.listener.message(f"trial {record.number}: its gang was adopted")
            return
        _reap(controller, handle)
    run_again(controller, _with_all_values(controller, record), intent, started=bool(handle))


def _result_on_disk(
    controller: Controller, record: TrialRecord, intent: Intent
) -> TrialRecord | None:
    data = read_json(controller.study.paths.trial(record.number, intent.attempt).result)
    if data is None:
        return None
    try:
        found = record_from_json(data)
    except ValueError:
        return None
    same = found.number == record.number and found.config_hash == record.config_hash
    return found if same and found.finished else None


def _with_all_values(controller: Controller, record: TrialRecord) -> TrialRecord:
    """The record with its inactive parameters named too, as the storage leaves them out."""
    index = controller.setting.legal.find(record.values)
    if index is None:
        return record
    return dataclasses.replace(record, values=dict(controller.setting.legal.config(index).values))


def _reap(controller: Controller, handle: dict[str, object]) -> None:
    launcher = controller.setting.launcher
    deadline = time.monotonic() + REAP_BOUND_S
    while launcher.survivors(handle) and time.monotonic() < deadline:
        launcher.cancel(handle, 0.0)
        time.sleep(0.05)


def run_again(
    controller: Controller, record: TrialRecord, intent: Intent, *, started: bool
) -> None:
    """Requeue a trial whose gang is gone; a third interruption is told as infra."""
    interrupted = intent.interrupted + int(started)
    if interrupted > INTERRUPTIONS:
        reason = f"interrupted {interrupted} times; given up"
        lost = dataclasses.replace(
            record, outcome=Outcome.INFRA, outcome_reason=reason, ended_at=now()
        )
        controller.study.save_result(lost, intent.attempt)
        controller.untold.append((lost, intent))
        return
    controller.requeue(record, intent.again(interrupted=interrupted))
