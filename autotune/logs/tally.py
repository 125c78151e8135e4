"""What a run's samples amount to, in bounded memory: enough to judge how it ended."""

from __future__ import annotations

import math
from collections import Counter, deque

from autotune.trial import StepSample

RECENT = 256
MAX_RANKS = 4096
_POSITIVE = ("seconds", "tokens", "tokens_per_s", "tokens_per_s_per_gpu", "samples_per_s")


class SampleTally:
    """Counts measured steps (distinct per rank, those with a time or a rate) as they arrive."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._last_measured: dict[int, int | None] = {}
        self._last_told: dict[int, int | None] = {}
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self._finite_loss_arrivals: deque[float] = deque(maxlen=RECENT)
        self.last_step: int | None = None
        self.last_arrival_s: float | None = None
        self.nan_losses = 0
        self.implausible: list[str] = []

    def feed(self, sample: StepSample) -> None:
        """Adds one sample, of any rank."""
        step, loss, arrival_s = sample.step, sample.loss, sample.arrival_s
        if step is not None and (self.last_step is None or step > self.last_step):
            self.last_step = step
        if loss is not None:
            self._feed_loss(loss, arrival_s)
        self._check(sample)
        measured = is_measured(sample)
        if not measured and loss is None:
            return
        if self._is_new(self._last_told, sample):
            self._recent.append((arrival_s, sample.rank))
        if measured and self._is_new(self._last_measured, sample):
            self._counts[sample.rank] = self._counts.get(sample.rank, 0) + 1
            self.last_arrival_s = arrival_s

    @property
    def measured(self) -> int:
        """Measured steps of the rank that printed most of them."""
        return max(self._counts.values(), default=0)

    def steps_after(self, arrival_s: float) -> int:
        """Steps of one rank, with a time, rate or loss, that arrived later (of the last 256)."""
        ranks = Counter(rank for arrived_s, rank in self._recent if arrived_s > arrival_s)
        return max(ranks.values(), default=0)

    def finite_losses_after(self, arrival_s: float) -> int:
        """How many finite losses above zero arrived later than ``arrival_s``."""
        return sum(arrived_s > arrival_s for arrived_s in self._finite_loss_arrivals)

    def _is_new(self, last: dict[int, int | None], sample: StepSample) -> bool:
        """Whether the rank tells another step than before; a step without number always is."""
        if sample.step is not None and last.get(sample.rank) == sample.step:
            return False
        if sample.rank in last or len(last) < MAX_RANKS:
            last[sample.rank] = sample.step
        return True

    def _feed_loss(self, loss: float, arrival_s: float) -> None:
        if math.isfinite(loss):
            self.nan_losses = 0
            if loss > 0.0:
                self._finite_loss_arrivals.append(arrival_s)
        else:
            self.nan_losses += 1

    def _check(self, sample: StepSample) -> None:
        if len(self.implausible) >= 5:
            return
        if sample.mfu is not None and not sample.mfu <= 1.0:
            self.implausible.append(f"MFU of {sample.mfu:.0%} is above 100%")
        told = vars(sample)
        for name in _POSITIVE:
            value = told[name]
            if value is not None and not 0.0 < value < math.inf:
                self.implausible.append(f"{name} of {value:g}")


def is_measured(sample: StepSample) -> bool:
    """Whether a sample tells how fast its step was."""
    return (
        sample.seconds is not None
        or sample.tokens_per_s is not None
        or sample.tokens_per_s_per_gpu is not None
        or sample.samples_per_s is not None
    )
