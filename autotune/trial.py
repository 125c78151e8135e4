"""The nouns of one trial: the job that runs, what its log says, what came of it.

    Job --launch--> Handle --poll--> GangStatus
     lines --parse--> StepSample* --steady state--> Measurement
     (exit statuses, evidence, samples) --diagnose--> Outcome

Pure data: nothing here reads a file, starts a process or knows a framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from autotune.config import ParameterValue


class Outcome(str, Enum):
    """What became of a trial, and what may be learned from it.

    Only ``oom_gpu`` teaches memory, only ``invalid_config`` teaches legality; ``infra`` is
    retried and teaches nothing; two ``user_error`` in a row stop the study.
    """

    OK = "ok"
    OOM_GPU = "oom_gpu"
    OOM_HOST = "oom_host"
    INVALID_CONFIG = "invalid_config"
    HANG = "hang"
    TIMEOUT = "timeout"
    NAN_LOSS = "nan_loss"
    INCOMPLETE = "incomplete"
    CRASH = "crash"
    USER_ERROR = "user_error"
    INFRA = "infra"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value


StartPer = Literal["job", "node", "rank"]


@dataclass(frozen=True)
class Job:
    """What a launcher starts: argument vectors, never shell strings.

    ``per`` says how often ``argv`` is started: once (``job``), once on each node (``node``,
    with NODE_RANK, NNODES, MASTER_ADDR and MASTER_PORT in the environment, and torchrun's
    PET_* twins), or once per GPU (``rank``, with RANK, LOCAL_RANK, WORLD_SIZE,
    LOCAL_WORLD_SIZE besides). ``files`` maps paths relative to the trial's folder to their
    text. ``sources`` tells where each environment value or flag came from, for --dry-run.
    ``time_compression`` is simulated seconds per real second (1.0: a real run).
    ``total_steps`` is how many optimizer steps a full run prints, None when unknown.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    per: StartPer = "job"
    nodes: int = 1
    gpus_per_node: int = 0
    time_limit_s: float = 3600.0
    total_steps: int | None = None
    time_compression: float = 1.0
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def world_size(self) -> int:
        """Ranks in the whole gang when started per rank; at least one."""
        return self.nodes * max(1, self.gpus_per_node)


Handle = dict[str, Any]
"""JSON that names a gang for its launcher: ``{"launcher": "local", "pid": ..., ...}``."""


@dataclass(frozen=True)
class RankExit:
    """How one started process ended: ``code`` or ``signal`` is set, never both."""

    rank: int
    code: int | None
    signal: int | None = None
    node: str = ""


GangState = Literal["pending", "running", "exited", "lost"]


@dataclass(frozen=True)
class GangStatus:
    """What a launcher knows of a gang now.

    ``pending`` waits for resources (its time counts toward no limit), ``hopeless`` if those can
    never come; ``lost`` means that the node or its supervisor vanished without an exit record.
    ``deadline_hit`` is set when the supervisor ended the gang at its time limit, ``oom_kill``
    when the kernel's host-memory killer was seen to act on it (cgroup ``oom_kill`` count).
    ``nodes`` names where it ran, ``unfit`` those of them that failed it, and how, where that is
    known. ``gpus`` has the NVML pictures before and after of some of its GPUs, and ``doubts`` says
    what made a measurement on any of them doubtful (throttled, shared, ECC errors).
    """

    state: GangState
    exits: tuple[RankExit, ...] = ()
    deadline_hit: bool = False
    oom_kill: bool = False
    cancelled: bool = False
    detail: str = ""
    nodes: tuple[str, ...] = ()
    peak_memory_gib: float | None = None
    gpu_seconds: float | None = None
    gpus: tuple[Mapping[str, Any], ...] = ()
    doubts: tuple[str, ...] = ()
    hopeless: bool = False
    unfit: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StepSample:
    """One optimizer step as one rank's log told it; ``None`` where the log was silent.

    ``seconds`` is the step time, ``tokens_per_s`` the global rate the log claims,
    ``tokens_per_s_per_gpu`` the rate per device it claims, ``arrival_s`` the monotonic time
    at which the line arrived (seconds).
    """

    step: int | None = None
    seconds: float | None = None
    tokens: float | None = None
    tokens_per_s: float | None = None
    tokens_per_s_per_gpu: float | None = None
    samples_per_s: float | None = None
    loss: float | None = None
    memory_gib: float | None = None
    tflops_per_gpu: float | None = None
    mfu: float | None = None
    rank: int = 0
    arrival_s: float = 0.0
    skipped: bool = False
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval (95% unless said otherwise)."""

    value: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether the two intervals share a point: then neither is called better."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Measurement:
    """The figures a trial earned, each with its interval; warm-up and compile steps dropped."""

    step_time_s: Interval
    tokens_per_s: Interval | None = None
    tokens_per_s_per_gpu: float | None = None
    tflops_per_gpu: float | None = None
    mfu: float | None = None
    peak_memory_gib: float | None = None
    steps_used: int = 0
    warmup_dropped: int = 0
    stopped_early: bool = False
    objective: Interval | None = None
    true_tokens_per_s: float | None = None
    """Tokens that are no padding, where the program counts them; they rank like ``tokens_per_s``,
    since all trials take the same samples."""
    sample_time_s: Interval | None = None
    """Seconds a sample: what a look at the throughput of a time to train is compared by."""
    eval_loss: float | None = None
    perplexity: float | None = None
    """The last evaluation's cross-entropy (nats) and its exponential, where the log tells them."""
    first_losses: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """An outcome, the sentence that tells why, and the log lines that prove it."""

    outcome: Outcome
    reason: str
    evidence: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    """Canonical parameters that an ``invalid_config`` message names, where it could be read."""


TrialKind = Literal["baseline", "search", "finalist", "audit", "rung"]
Fidelity = Literal["full", "throughput", "target", "check", "proxy"]
"""How much of the job a trial ran: its steps (``full``); of a study whose score is the time to a
target loss, a few steps for their speed (``throughput``), or all until that loss (``target``); on
fewer nodes one step, to see whether it fits (``check``), or a smaller model (``proxy``)."""
SMALLER: tuple[Fidelity, ...] = ("check", "proxy")
"""Fidelities that run less than the whole job: they teach the search, and never win."""


@dataclass(frozen=True)
class Prediction:
    """What was expected of a config when it was chosen; ``None`` without a cost model."""

    step_time_s: float | None = None
    step_time_low_s: float | None = None
    step_time_high_s: float | None = None
    memory_gib: float | None = None
    memory_sigma_gib: float | None = None
    probability_fits: float | None = None


@dataclass(frozen=True)
class TrialRecord:
    """All that a study remembers of one trial."""

    number: int
    values: Mapping[str, ParameterValue]
    config_hash: str
    kind: TrialKind = "search"
    reason: str = ""
    prediction: Prediction = field(default_factory=Prediction)
    outcome: Outcome | None = None
    outcome_reason: str = ""
    evidence: tuple[str, ...] = ()
    parameters_named: tuple[str, ...] = ()
    measurement: Measurement | None = None
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    started_at: str = ""
    ended_at: str = ""
    nodes: tuple[str, ...] = ()
    attempt: int = 1
    ran_to_end: bool = False
    simulated: bool = False
    fidelity: Fidelity = "full"
    seed: int | None = None
    """What weights and data were drawn with; None: the seed that all trials share."""
    gpus: tuple[Mapping[str, Any], ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether an outcome was told."""
        return self.outcome is not None
