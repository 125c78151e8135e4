"""Watches one running trial: what a step takes, and whether watching longer is worth it.

    samples --feed--> SteadyState --decide(best)--> go on | stop, and why
                                  `--measurement--> Measurement | None

A trial that is plainly worse than the best ends at once, a contender when its step time is
known to 1%. Where a log prints no step time its rates stand in, else the times at which its
lines arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from autotune.search.series import FloatArray, Steady, find_steady
from autotune.trial import Interval, Measurement, StepSample

CLAIM_TOLERANCE = 0.05
ARRIVAL_TOLERANCE = 0.3
MAX_SAMPLES = 20_000


@dataclass(frozen=True)
class Workload:
    """What turns seconds into rates: facts of the contract, never of the log.

    ``tokens_per_step`` is global batch size times sequence length, ``samples_per_step`` the
    global batch size, ``flops_per_token`` the model's own floating-point operations per
    trained token (recompute not counted), ``peak_flops_per_gpu`` the dense peak in FLOP/s.
    ``metric`` names the figure of the samples that the user's own command is judged by,
    ``maximize`` its sense. ``clock_rate`` is the job's seconds per second of the clock that
    stamped arrivals (above 1 on a compressed simulation).
    """

    tokens_per_step: float | None = None
    samples_per_step: float | None = None
    gpus: int = 1
    flops_per_token: float | None = None
    peak_flops_per_gpu: float | None = None
    metric: str | None = None
    maximize: bool = True
    clock_rate: float = 1.0


@dataclass(frozen=True)
class StepLimits:
    """When a trial has told enough: step counts, and the relative half-width of a contender."""

    min_steps: int = 3
    warmup_steps: int = 0
    precision: float = 0.01


@dataclass(frozen=True)
class Decision:
    """Whether to end the trial now; ``worse`` when it lost rather than finished."""

    stop: bool
    reason: str
    worse: bool = False


@dataclass
class SteadyState:
    """The steps of one trial so far. Feed it samples in the order of arrival, any rank."""

    workload: Workload = field(default_factory=Workload)
    limits: StepLimits = field(default_factory=StepLimits)
    samples: list[StepSample] = field(default_factory=list)

    def feed(self, sample: StepSample) -> None:
        """Adds what a log line told; beyond 20,000 samples only its memory and own figures."""
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(sample)
        elif sample.memory_gib is not None or sample.extra:
            last = self.samples[-1]
            peak = max(sample.memory_gib or 0.0, last.memory_gib or 0.0) or None
            extra = {**last.extra, **sample.extra}
            self.samples[-1] = replace(last, memory_gib=peak, extra=extra)

    def merit(self) -> Interval | None:
        """What the trial is judged by so far: its metric, else seconds per step; None at first."""
        steady, _ = self._steady_merit()
        return steady.interval if steady.values.size else None

    def decide(self, best: Interval | None = None) -> Decision:
        """Whether more steps are worth their time, against the best trial's ``merit``.

        ``best`` is in the same unit: seconds per step, or the metric. Never stops before
        ``min_steps`` steady steps.
        """
        steady, unit = self._steady_merit()
        if steady.values.size < self.limits.min_steps:
            return Decision(False, f"{steady.values.size} steady steps so far")
        now = steady.interval
        if best is not None and _worse(now, best, self.workload, steady.values[-2:]):
            said = f"{unit} {now.value:.4g} against the best's {best.value:.4g}"
            return Decision(True, f"plainly worse: {said}", worse=True)
        width = (now.high - now.low) / (2.0 * abs(now.value)) if now.value else 0.0
        if width <= self.limits.precision:
            return Decision(True, f"{unit} known to {width:.1%} after {steady.values.size} steps")
        return Decision(False, f"{unit} known to {width:.1%}")

    def _steady_merit(self) -> tuple[Steady, str]:
        warm = _warm(scoring_steps(self.samples), self.limits)
        if self.workload.metric is not None:
            return _steady_metric(warm, self.workload), self.workload.metric
        return find_steady(_step_seconds(warm, self.workload)[0]), "step time"

    def measurement(self, peak_memory_gib: float | None = None) -> Measurement | None:
        """The figures so far, None while not one steady step was seen."""
        return measure(self.samples, self.workload, self.limits, peak_memory_gib)


def measure(
    samples: Iterable[StepSample],
    workload: Workload,
    limits: StepLimits | None = None,
    peak_memory_gib: float | None = None,
) -> Measurement | None:
    """The figures that a trial's samples earn, None when nothing in them can be timed.

    Tokens/s are the contract's tokens over the measured step time; what the log claims is only
    compared, and a contradiction is noted. ``peak_memory_gib`` is what the device's own counter
    saw; the larger of it and the log's maximum over all ranks counts. Fewer steady steps than
    ``min_steps`` are measured too, with the wide interval they deserve, and noted. The step
    time is 0 where the log tells only the metric.
    """
    limits = limits or StepLimits()
    every = list(samples)
    steps = scoring_steps(every)
    timed = _warm(steps, limits)
    seconds, source = _step_seconds(timed, workload)
    metric = _steady_metric(timed, workload)
    if not seconds and not metric.values.size:
        return None
    steady = find_steady(seconds) if seconds else metric
    time_s = steady.interval if seconds else Interval(0.0, 0.0, 0.0)
    tokens = _rate(workload.tokens_per_step, time_s)
    per_gpu = tokens.value / workload.gpus if tokens else None
    flops = per_gpu * workload.flops_per_token if per_gpu and workload.flops_per_token else None
    memory = [m for m in (*(s.memory_gib for s in every), peak_memory_gib) if m is not None]
    true = _true_tokens_per_s(steps, time_s, workload)
    notes = _notes(steady, source if seconds else "", limits) + _contradictions(
        timed, time_s, tokens, workload, true
    )
    return Measurement(
        step_time_s=time_s,
        tokens_per_s=tokens,
        tokens_per_s_per_gpu=per_gpu,
        true_tokens_per_s=true,
        tflops_per_gpu=flops / 1e12 if flops else None,
        mfu=flops / workload.peak_flops_per_gpu if flops and workload.peak_flops_per_gpu else None,
        peak_memory_gib=max(memory, default=None),
        steps_used=int(steady.values.size),
        warmup_dropped=steady.warmup + len(steps) - len(timed),
        objective=metric.interval if metric.values.size else None,
        eval_loss=_latest(every, "eval_loss"),
        perplexity=_latest(every, "perplexity"),
        first_losses=tuple(s.loss for s in steps if s.loss is not None)[:10],
        notes=notes,
    )


def _latest(samples: Sequence[StepSample], name: str) -> float | None:
    """The last value of a figure of the program's own."""
    return next((s.extra[name] for s in reversed(samples) if name in s.extra), None)


def scoring_steps(samples: Sequence[StepSample]) -> list[StepSample]:
    """One sample per step of the one rank that tells most, lowest rank first on a tie.

    Lines of one step (a loss here, a rate there) become one sample; the first figure counts.
    """
    told: dict[int, int] = {}
    for sample in samples:
        told[sample.rank] = told.get(sample.rank, 0) + _is_timed(sample)
    if not told:
        return []
    rank = min(told, key=lambda r: (-told[r], r))
    steps: list[StepSample] = []
    where: dict[int, int] = {}
    for sample in samples:
        if sample.rank != rank:
            continue
        if sample.step is not None and sample.step in where:
            at = where[sample.step]
            steps[at] = _merged(steps[at], sample)
            continue
        if sample.step is not None:
            where[sample.step] = len(steps)
        steps.append(sample)
    return steps


def _is_timed(sample: StepSample) -> bool:
    rates = (sample.tokens_per_s, sample.tokens_per_s_per_gpu, sample.samples_per_s)
    return sample.seconds is not None or any(rates) or bool(sample.extra)


_FIGURES = (
    "seconds",
    "tokens",
    "tokens_per_s",
    "tokens_per_s_per_gpu",
    "samples_per_s",
    "loss",
    "memory_gib",
    "tflops_per_gpu",
    "mfu",
)


def _merged(first: StepSample, second: StepSample) -> StepSample:
    missing = {name: getattr(second, name) for name in _FIGURES if getattr(first, name) is None}
    return replace(
        first,
        **missing,
        skipped=first.skipped or second.skipped,
        extra={**second.extra, **first.extra},
    )


def _warm(steps: list[StepSample], limits: StepLimits) -> list[StepSample]:
    """Steps after the declared warm-up; a line that covers ten steps counts as ten."""
    numbers = [s.step for s in steps]
    stride = 1
    if len(numbers) > 1 and numbers[0] is not None and numbers[1] is not None:
        stride = max(1, numbers[1] - numbers[0])
    return steps[-(-limits.warmup_steps // stride) :]


def _step_seconds(steps: list[StepSample], workload: Workload) -> tuple[list[float], str]:
    """Seconds per step and where they come from: step times, rates, else arrivals."""
    told = [s for s in steps if not s.skipped]
    told = told or steps
    printed = [s.seconds for s in told if s.seconds is not None and s.seconds > 0]
    arrivals = _arrival_seconds(steps, workload.clock_rate)
    if printed:
        return printed, "step time"
    rated = [t for t in (_seconds_from_rate(s, workload) for s in told) if t is not None]
    if not rated:
        return arrivals, "arrival"
    if len(arrivals) >= 5:
        clock = find_steady(arrivals).interval
        steady_clock = clock.high - clock.low < 0.5 * clock.value
        rate = find_steady(rated).interval.value
        if steady_clock and rate < clock.value * (1.0 - ARRIVAL_TOLERANCE):
            return arrivals, "arrival, since the log's rate is faster than its lines came"
    return rated, "the log's rate"


def _seconds_from_rate(sample: StepSample, workload: Workload) -> float | None:
    tokens = sample.tokens or workload.tokens_per_step
    if tokens and sample.tokens_per_s:
        return tokens / sample.tokens_per_s
    if tokens and sample.tokens_per_s_per_gpu:
        return tokens / (sample.tokens_per_s_per_gpu * workload.gpus)
    if workload.samples_per_step and sample.samples_per_s:
        return workload.samples_per_step / sample.samples_per_s
    return None


def _arrival_seconds(steps: list[StepSample], clock_rate: float) -> list[float]:
    """Seconds between the arrivals of consecutive steps; empty where lines came in one burst."""
    seconds: list[float] = []
    for before, after in pairwise(steps):
        gap = (after.arrival_s - before.arrival_s) * clock_rate
        numbered = before.step is not None and after.step is not None
        stride = after.step - before.step if numbered else 1  # type: ignore[operator]
        if stride > 0:
            seconds.append(gap / stride)
    bursts = sum(gap <= 1e-4 for gap in seconds)
    return [] if bursts > len(seconds) // 2 else [gap for gap in seconds if gap > 1e-4]


def _steady_metric(steps: list[StepSample], workload: Workload) -> Steady:
    name = workload.metric
    figures = [_figure(sample, name) for sample in steps] if name is not None else []
    told = [figure for figure in figures if figure is not None]
    return find_steady(told, stalls_rise=not workload.maximize)


def _figure(sample: StepSample, name: str) -> float | None:
    """A figure by name: one of the user's own, else a field of the sample."""
    value = sample.extra.get(name, getattr(sample, name, None))
    return float(value) if isinstance(value, (int, float)) else None


def _worse(now: Interval, best: Interval, workload: Workload, latest: FloatArray) -> bool:
    """Whether the interval lies beyond the best's, and the latest steps do too.

    Steps that still get better may be a compilation's last.
    """
    if workload.metric is not None and workload.maximize:
        return now.high < best.low and float(latest.max()) < best.low
    return now.low > best.high and float(latest.min()) > best.high


def _rate(amount: float | None, time_s: Interval) -> Interval | None:
    if amount is None or time_s.value <= 0.0:
        return None
    return Interval(amount / time_s.value, amount / time_s.high, amount / time_s.low)


def _true_tokens_per_s(
    steps: Sequence[StepSample], time_s: Interval, workload: Workload
) -> float | None:
    """Tokens/s without padding, of a program that counts fewer tokens than its batch could hold."""
    counted = [s.tokens for s in steps if s.tokens]
    if not counted or not workload.tokens_per_step or time_s.value <= 0.0:
        return None
    mean = sum(counted) / len(counted)
    padded = mean < workload.tokens_per_step * (1.0 - CLAIM_TOLERANCE)
    return mean / time_s.value if padded else None


def _notes(steady: Steady, source: str, limits: StepLimits) -> tuple[str, ...]:
    notes = []
    if source and source != "step time":
        notes.append(f"step time taken from {source}")
    if steady.stalls:
        notes.append(
            f"{steady.stalls} stalled steps left out ({steady.stall_share:.0%} of the time)"
        )
    if steady.values.size < limits.min_steps:
        notes.append(f"only {steady.values.size} steady steps of {limits.min_steps} wanted")
    return tuple(notes)


def _contradictions(
    steps: list[StepSample],
    time_s: Interval,
    tokens: Interval | None,
    workload: Workload,
    true: float | None,
) -> tuple[str, ...]:
    """Where the log's own rates, or the clock, disagree with what was measured."""
    notes = []
    claims = [s.tokens_per_s or (s.tokens_per_s_per_gpu or 0.0) * workload.gpus for s in steps]
    claims = [claim for claim in claims if claim > 0.0]
    if claims and tokens:
        claim = find_steady(claims).interval.value
        if true is not None:
            notes.append(f"{true:.4g} true tokens/s, {1.0 - true / tokens.value:.0%} are padding")
        elif abs(claim / tokens.value - 1.0) > CLAIM_TOLERANCE:
            notes.append(
                f"the log claims {claim:.4g} tokens/s; the contract's tokens over the measured "
                f"step time are {tokens.value:.4g}, which is what counts"
            )
    arrivals = _arrival_seconds(steps, workload.clock_rate)
    if len(arrivals) >= 5 and time_s.value > 0.0:
        clock = find_steady(arrivals).interval.value
        if clock > time_s.value * (1.0 + ARRIVAL_TOLERANCE):
            notes.append(f"steps of {time_s.value:.4g} s arrived {clock:.4g} s apart")
    return tuple(notes)
