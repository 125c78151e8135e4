"""The controller: one loop over one study, that may die at any line and lose nothing.

    ask -> record the config -> render -> intent -> launch -> handle -> watch -> judge
        -> result file -> fence -> tell

Every arrow is a point at which the next controller can pick the study up.
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import suppress

from threadpoolctl import threadpool_limits

from autotune.controller import judge, recovery
from autotune.controller.agenda import Agenda, Over, Task
from autotune.controller.events import Listener, Silent
from autotune.controller.failpoints import failpoint
from autotune.controller.ladder import LadderAgenda
from autotune.controller.nodes import Nodes, unfit_nodes
from autotune.controller.outage import Outage
from autotune.controller.repeats import Repeats
from autotune.controller.setting import Setting
from autotune.controller.signals import Signals
from autotune.controller.standing import Result, best_so_far, fastest_sample, result
from autotune.controller.start import Start, prepare_start, watch_over
from autotune.controller.waiting import Waiting
from autotune.controller.watch import Watch
from autotune.errors import (
    AutotuneError,
    BadInput,
    EngineLost,
    InfrastructureError,
    PlaceSpent,
    StudyHeld,
)
from autotune.launchers import submit_all
from autotune.launchers.nvml import read_gpus
from autotune.search.distributions import distributions
from autotune.study.artifacts import keep_artifacts
from autotune.study.intents import Intent
from autotune.study.record import Study
from autotune.study.storage import StorageAway
from autotune.trial import SMALLER, Interval, Outcome, TrialRecord

FASTEST_POLL_S = 0.005
SLOWEST_POLL_S = 0.1
NOTE_BOUND_S = 60.0


class Fenced(StudyHeld):
    """The lease was taken while this controller was away: it must not tell anything more."""


class CheckGivenUp(Exception):
    """An interrupt came while the nodes were checked."""


class Controller:
    """Runs one study to its end; create it holding the study's lease."""

    def __init__(
        self,
        study: Study,
        setting: Setting,
        listener: Listener | None = None,
        agenda: Agenda | LadderAgenda | None = None,
    ) -> None:
        self.study = study
        self.setting = setting
        self.listener: Listener = listener or Silent()
        self.running: list[Watch] = []
        self.queue: list[TrialRecord] = []
        self.untold: list[tuple[TrialRecord, Intent]] = []
        self.agenda = agenda or Agenda(setting, float(study.noted("wall_time_s") or 0.0))
        self._distributions = distributions(setting.legal)
        self._outage = Outage(self.listener.message, lambda: recovery.take_in_appeared(self))
        self._with_storage = self._outage.do
        self._poll_s = FASTEST_POLL_S
        self._over: str | None = None
        self._drain_told = False
        self._spent: InfrastructureError | None = None
        self._parallel = 1
        self._best: Interval | None = None
        self._waiting = Waiting(self.listener)
        self._repeats = Repeats(study, self.listener)
        self.nodes = Nodes(study, setting, self.listener)

    # -- the loop

    def run(self) -> Result:
        """Go on until the budget or the search ends; the standing then.

        Raises InfrastructureError (storage, disk, nodes), StudyHeld when fenced. Interrupted:
        returns after draining or killing; `exit_code` of the signals tells. Linear algebra
        stays on one core meanwhile: the others belong to the trials.
        """
        self.nodes.recall()
        self._parallel = self.setting.parallel
        recovery.pick_up(self)
        self._refresh_best()
        with Signals() as self.signals, threadpool_limits(limits=1, user_api="blas"):
            try:
                while not self._finished():
                    self._turn()
            except (InfrastructureError, StudyHeld) as error:
                self._leave(kill=not isinstance(error, StudyHeld))
                raise
        self._note_end()
        return self.standing()

    def standing(self) -> Result:
        """Winner, baseline and ties so far."""
        return result(self.study.records(), *self.study.reading)

    def _finished(self) -> bool:
        if self.running or self.untold:
            return False
        if self._spent is not None:
            raise self._spent
        return self.signals.draining or self._over is not None

    def _turn(self) -> None:
        self._with_storage(self._keep_lease)
        if self.signals.killing and self.running:
            self._leave(kill=True)
            return
        self._tell_drain()
        settled = [watch for watch in self.running if watch.advance(self._to_beat(watch))]
        self._note_hopeless()
        for watch in settled:
            self.running.remove(watch)
            self._conclude(watch)
        self._with_storage(self._tell_all)
        if not self.signals.draining and self._over is None and self._spent is None:
            self._with_storage(self._launch_next)
        self.listener.progress([watch.progress() for watch in self.running])
        self._waiting.tell(self.running)
        if settled:
            self._poll_s = FASTEST_POLL_S
        elif self.running or self._outage.lasts:
            time.sleep(self._poll_s)
            self._poll_s = min(self._poll_s * 1.3, SLOWEST_POLL_S)

    def _note_hopeless(self) -> None:
        """Start nothing more once a trial waits for what can never come: all ask for the same."""
        for watch in self.running:
            if watch.ending == "hopeless" and self._spent is None:
                self._spent = PlaceSpent(
                    f"trial {watch.record.number} can never start: {watch.ending_reason}. Nothing "
                    f"was learned from it; `autotune resume {self.study.name}` starts it again, "
                    "with another --launcher-option if need be."
                )

    # -- the lease

    def _keep_lease(self) -> None:
        lease = self.study.lease
        if lease is not None and lease.due() and not self.study.renew():
            raise self._fenced()

    def _fenced(self) -> Fenced:
        return Fenced(
            f"study {self.study.name!r}: another controller took over while this one was away. "
            "What it had not told is kept in the trials' folders."
        )

    # -- launching

    def _launch_next(self) -> None:
        """Choose what fits, and start it at once: an engine may take several as one request."""
        starts: list[Start] = []
        try:
            while len(self.running) + len(starts) < self._parallel:
                busy = [*(watch.record for watch in self.running), *(s.record for s in starts)]
                record = self._next_record(busy)
                if record is None:
                    break
                starts.append(self._prepare(record))
        except StorageAway:
            self._start(starts)
            raise
        self._start(starts)

    def _prepare(self, record: TrialRecord) -> Start:
        try:
            return prepare_start(self.study, self.setting, record)
        except StorageAway:
            self.queue.insert(0, record)
            raise

    def _next_record(self, busy: list[TrialRecord]) -> TrialRecord | None:
        if any(record.kind == "finalist" for record in busy):
            return None
        if self.queue:
            return self.queue.pop(0)
        if self.untold:
            return None
        task = self.agenda.next(self.study.records(), busy)
        if isinstance(task, Over):
            self._over = task.reason
            return None
        if task is None or (task.alone and busy):
            return None
        if task.kind == "finalist":
            try:
                self.nodes.check_once(self._while_checking)
            except CheckGivenUp:
                return None
        return self._record(task)

    def _tell_drain(self) -> None:
        if self.signals.draining and self.running and not self._drain_told:
            self._drain_told = True
            self.listener.message("interrupted: waits for what runs; Ctrl-C again ends it at once")

    def _while_checking(self) -> None:
        self._with_storage(self._keep_lease)
        if self.signals.draining:
            raise CheckGivenUp

    def _record(self, task: Task) -> TrialRecord:
        record = self.study.add(
            task.config,
            self._distributions,
            kind=task.kind,
            reason=task.reason,
            prediction=task.prediction,
            simulated=self.setting.options.simulated,
            fidelity=task.fidelity,
            seed=task.seed,
        )
        failpoint("after_choosing")
        return record

    def _start(self, starts: list[Start]) -> None:
        """Submit, then save each handle; what cannot start is told like any outcome."""
        if not starts:
            return
        gpus_before = read_gpus() if self.setting.launcher.name == "local" else []
        results = submit_all(self.setting.launcher, [start.request for start in starts])
        failpoint("after_spawn")
        for start, handle in zip(starts, results, strict=True):
            self._poll_s = FASTEST_POLL_S
            if isinstance(handle, PlaceSpent):
                self._spent = handle  # the next controller starts this trial
                continue
            if isinstance(handle, AutotuneError):
                bad = isinstance(handle, BadInput)
                outcome = Outcome.USER_ERROR if bad else Outcome.INFRA
                self._failed_to_start(start.record, start.intent, outcome, str(handle))
                continue
            intent = dataclasses.replace(start.intent, state="running", handle=handle)
            watch = watch_over(self.study, self.setting, start.record, intent)
            watch.gpus_before = gpus_before
            self.running.append(watch)
            self._with_storage(lambda n=start.record.number, i=intent: self.study.set_intent(n, i))  # type: ignore[misc]
            failpoint("after_handle")
            self.listener.started(start.record)

    def _failed_to_start(
        self, record: TrialRecord, intent: Intent, outcome: Outcome, reason: str
    ) -> None:
        told = dataclasses.replace(
            record, outcome=outcome, outcome_reason=reason, ended_at=judge.now()
        )
        self._settle(told, intent)

    # -- concluding

    def _to_beat(self, watch: Watch) -> Interval | None:
        """The best objective so far, in the unit the running trial is judged by."""
        if self._best is None or watch.record.fidelity in SMALLER:
            return None
        return watch.in_its_unit(self._best, self.setting.space.objective.metric)

    def _refresh_best(self) -> None:
        if self.setting.first_fidelity == "throughput":
            self._best = fastest_sample(self.study.records())
            return
        best = best_so_far(self.study.records(), self.setting.maximize)
        self._best = best.objective if best else None

    def _conclude(self, watch: Watch) -> None:
        if watch.ending == "hopeless":
            self._put_back(watch)
            return
        going = [other.so_far() for other in self.running]
        record = judge.judge(self.setting, watch, [*self.study.records(), *going])
        failpoint("after_judging")
        if record.outcome is Outcome.CANCELLED and watch.cancelled_before:
            recovery.run_again(self, watch.record, watch.intent, started=True)
        else:
            self._settle(record, watch.intent)
        if watch.status.state == "lost" and watch.status.unfit:
            unfit = watch.status.unfit
            self.nodes.set_aside(list(unfit), "; ".join(unfit.values()))  # if others are left
            return
        nodes, why = unfit_nodes(watch, record, alone=not self.running)
        if why and not self.nodes.set_aside(nodes, why):
            self._with_storage(self._tell_all)
            raise InfrastructureError(
                f"{', '.join(nodes) or 'this node'}: {why}. It is set aside and too few others "
                "are left; the config is not blamed. "
                f"Mend the node, then `autotune resume {self.study.name}`."
            )

    def _settle(self, record: TrialRecord, intent: Intent) -> None:
        """Run again what was not the config's fault; else write the result file, to be told."""
        again = self._repeats.again(record, intent)
        if again is not None:
            self.requeue(record, again)
            return
        self._with_storage(lambda: self._fence(record, intent))
        self.study.save_result(record, intent.attempt)
        failpoint("after_result_file")
        self.untold.append((record, intent))

    def requeue(self, record: TrialRecord, intent: Intent) -> None:
        """Run the same trial again under a new attempt."""
        clean = dataclasses.replace(
            record, outcome=None, outcome_reason="", evidence=(), measurement=None, ended_at="",
            gpus=(), doubts=(),
        )  # fmt: skip
        self.queue.append(clean)
        with suppress(StorageAway):  # in memory it stands, and the launch writes it again
            self.study.set_intent(record.number, intent)

    def _tell_all(self) -> None:
        while self.untold:
            record, intent = self.untold[0]
            self._fence(record, intent)
            keep_artifacts(self.study, record, intent.attempt)
            self.study.tell(record)
            failpoint("after_tell")
            self._refresh_best()
            self.untold.pop(0)
            self.listener.finished(record)

    def _fence(self, record: TrialRecord, intent: Intent) -> None:
        """Stop, keeping the result as a late one, when another controller holds the study."""
        if not self.study.still_held():
            self.study.save_late(record, intent)
            raise self._fenced()

    # -- leaving

    def _leave(self, kill: bool) -> None:
        """Let go of what runs: end the gangs (their trials run again), or leave them alone."""
        if not kill:
            self.running.clear()
            return
        try:
            self._end_all()
        except EngineLost:
            return  # the next controller looks for them

    def _end_all(self) -> None:
        for watch in self.running:
            watch.end("cancel", "interrupted")
        deadline = time.monotonic() + 60.0
        while self.running and time.monotonic() < deadline:
            for watch in [w for w in self.running if w.advance(None)]:
                self.running.remove(watch)
                self._put_back(watch)
            time.sleep(0.02)

    def _put_back(self, watch: Watch) -> None:
        """Ended before it told anything: the trial runs again on resume, and it does not count."""
        again = watch.intent.again()
        self._with_storage(lambda: self.study.set_intent(watch.record.number, again))

    def _note_end(self) -> None:
        facts = {"ended": self._over or "interrupted", "wall_time_s": self.agenda.wall_time_s}

        def note() -> None:
            while facts:
                key, value = next(iter(facts.items()))
                self.study.note(key, value)
                del facts[key]

        bound = time.monotonic() + NOTE_BOUND_S
        while facts and time.monotonic() < bound:
            self._with_storage(note)
            time.sleep(0.0 if not facts else SLOWEST_POLL_S)
