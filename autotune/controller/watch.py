"""One running gang: reads its lines, keeps its samples, and knows when to end it.

    pending --> running --> ending --> settled
       |           |  fatal evidence, plainly worse, known well enough, hang, cancel
       |           `-- its own end, or the supervisor's deadline
       `-- hopeless: what it waits for can never come

The verdict waits until all that was written has been read and no process of the gang is left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Literal

from autotune.controller.events import Progress
from autotune.controller.preparation import Preparation
from autotune.controller.timers import HangTimer
from autotune.launchers import Launcher
from autotune.launchers.nvml import Gpu
from autotune.logs import EvidenceCollector, LogFormat, Parser, SampleTally, Scanner
from autotune.logs.tail import TrialLogs
from autotune.search.steady import SteadyState
from autotune.study.intents import Intent
from autotune.study.paths import TrialPaths
from autotune.trial import Diagnosis, GangStatus, Interval, Job, StepSample, TrialRecord

Ending = Literal["", "fatal", "worse", "known", "hang", "cancel", "hopeless"]
SURVIVOR_BOUND_S = 30.0
WAIT_TOLD_S = 3.0


@dataclass
class Watch:
    """A trial's gang as this controller sees it."""

    record: TrialRecord
    intent: Intent
    job: Job
    paths: TrialPaths
    launcher: Launcher
    log_format: LogFormat
    steady: SteadyState
    hang: HangTimer
    may_stop_early: bool
    kill_grace_s: float
    adopted: bool = False
    started: float = field(default_factory=time.monotonic)
    status: GangStatus = field(default_factory=lambda: GangStatus("pending"))
    ending: Ending = ""
    ending_reason: str = ""
    fatal: Diagnosis | None = None
    """What the log proved when the gang was ended for it."""
    survivors: list[str] = field(default_factory=list)
    ended_on_purpose_at: float | None = None
    gpus_before: list[Gpu] = field(default_factory=list)
    _ended_at: float | None = None
    _running_since: float | None = None

    def __post_init__(self) -> None:
        self._logs = TrialLogs(self.paths.folder)
        self._parser = Parser(self.log_format)
        self.evidence = EvidenceCollector()
        self._scanner = Scanner(self._parser, self.evidence)
        self.tally = SampleTally()
        self.preparation = Preparation(self.paths.folder)

    # -- what the loop calls

    def advance(self, best: Interval | None) -> bool:
        """Read, judge, act; True once the gang is gone and everything it wrote was read."""
        self.status = self.launcher.poll(self.intent.handle)
        more = self._read()
        if self.status.state in ("exited", "lost"):
            return not more and self._settled()
        if self.status.state == "running":
            if self._running_since is None:
                self._running_since = time.monotonic()
                self.hang.start(self._running_since)
            if not self.steady.samples and self.preparation.goes_on(time.monotonic()):
                self.hang.start(time.monotonic())
            self._consider(best)
        elif self.status.hopeless:
            self.end("hopeless", self.status.detail)
        if self.ending:
            self.launcher.cancel(
                self.intent.handle, self.kill_grace_s, dump_stacks=self.ending == "hang"
            )
        return False

    def end(self, ending: Ending, reason: str) -> None:
        """Ask for the gang's end; the first reason stands."""
        if not self.ending:
            self.ending, self.ending_reason = ending, reason
            self.ended_on_purpose_at = time.monotonic()

    @property
    def cancelled_before(self) -> bool:
        """Whether a controller that died since had asked for its end, and this one did not."""
        return self.adopted and self.status.cancelled and not self.ending

    def nodes_that_told(self, kind: str) -> list[str]:
        """Nodes whose ranks printed evidence of a kind of failure; empty where that is unknown."""
        found = self.evidence.findings.get(kind)
        told = [end.node for end in self.status.exits if found and end.rank in found.ranks]
        return list(dict.fromkeys(filter(None, told)))

    def progress(self) -> Progress:
        """Where the trial is, for a person."""
        steps = [sample.step for sample in self.steady.samples[-1:] if sample.step is not None]
        merit = self.steady.merit()
        if self.ending:
            phase = "ending"
        elif self.status.state == "pending":
            phase = self.status.detail or "waits for resources"
        else:
            phase = "measuring" if merit else "starting"
        return Progress(
            self.record.number,
            phase,
            step=steps[-1] if steps else len(self.steady.samples) or None,
            total_steps=self.job.total_steps,
            step_time_s=merit.value if merit else None,
            elapsed_s=self.seconds,
            time_limit_s=self.job.time_limit_s,
        )

    def so_far(self) -> TrialRecord:
        """Its record with what it has told until now."""
        return replace(self.record, measurement=self.steady.measurement())

    def waits_long(self) -> bool:
        """Whether it waits for resources, and not just until they were asked for."""
        waiting = self.status.state == "pending" and bool(self.status.detail)
        return waiting and time.monotonic() - self.started > WAIT_TOLD_S

    def in_its_unit(self, best: Interval, metric: str) -> Interval | None:
        """An objective as `SteadyState` compares it: seconds per step, or the metric.

        Of a time to train ``best`` is in seconds a sample.
        """
        workload = self.steady.workload
        if workload.metric is not None or metric == "step_time_s":
            return best
        if metric == "time_to_target_s":
            samples = workload.samples_per_step or 1.0
            return Interval(*(samples * x for x in (best.value, best.low, best.high)))
        tokens = workload.tokens_per_step
        if metric != "tokens_per_s" or not tokens or best.low <= 0:
            return None
        return Interval(tokens / best.value, tokens / best.high, tokens / best.low)

    @property
    def seconds(self) -> float:
        """How long the gang ran on the real clock; its queueing and preparing are not counted."""
        end = self._ended_at or time.monotonic()
        return end - (self._running_since or self.started) - self.preparation.seconds

    @property
    def ended_by_itself(self) -> bool:
        """Whether every process ended with 0 before anybody asked it to, or did all its steps."""
        exits = self.status.exits
        own = bool(exits) and not self.status.cancelled and all(e.code == 0 for e in exits)
        return own or self.all_steps_done

    @property
    def all_steps_done(self) -> bool:
        """Whether the log shows the full number of steps."""
        total = self.job.total_steps
        numbers = [sample.step for sample in self.steady.samples if sample.step is not None]
        return total is not None and bool(numbers) and max(numbers) >= total

    # -- inside

    def _read(self) -> bool:
        """Feed what is new in the logs; whether there may be more at once."""
        ended = self.status.state in ("exited", "lost")
        blocks = 0
        for block in self._logs.drain_blocks() if ended else self._logs.read_blocks():
            blocks += 1
            for sample in self._scanner.feed(block):
                self._take(sample)
        return blocks > 0

    def _take(self, sample: StepSample) -> None:
        self.steady.feed(sample)
        self.tally.feed(sample)
        self.hang.progressed(sample.arrival_s)

    def _consider(self, best: Interval | None) -> None:
        if self.ending:
            return
        self.fatal = self.evidence.fatal(self.tally, now_s=time.monotonic())
        if self.fatal is not None:
            self.end("fatal", self.fatal.reason)
        elif self.may_stop_early and not self.all_steps_done:
            decision = self.steady.decide(best)
            if decision.stop:
                self.end("worse" if decision.worse else "known", decision.reason)
        if not self.ending and not self.all_steps_done and self.hang.expired(time.monotonic()):
            self.end("hang", self.hang.reason())

    def _settled(self) -> bool:
        """Whether no process of the gang is left, or we waited for that long enough."""
        now = time.monotonic()
        if self._ended_at is None:
            self._ended_at = now
            for sample in self._parser.finish():
                self._take(sample)
        self.survivors = self.launcher.survivors(self.intent.handle)
        if not self.survivors:
            return True
        self.launcher.cancel(self.intent.handle, 0.0)
        return now - self._ended_at > SURVIVOR_BOUND_S
