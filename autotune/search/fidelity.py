"""Smaller jobs that tell of a whole one, where that costs less than it saves.

A memory check is one step of a config on the fewest nodes that hold a replica of the model: an
out-of-memory ends a trial at once anyway, so a check on all nodes would save nothing. A proxy is
measured to its end with fewer replicas and fewer layers in each stage; the cost model turns its
step time and its peak into the whole job's. Neither decides a study: what looks best is run in
full before it counts, and the finalists always are. Pure functions, called by the controller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from autotune.search.merit import log_cost
from autotune.space.limits import Objective
from autotune.trial import SMALLER, Interval, Measurement, Outcome, TrialRecord

LAYERS_PER_STAGE = 2
"""A proxy keeps at least so many layers in each (virtual) pipeline stage."""


@dataclass(frozen=True)
class Size:
    """How much of a job runs: machines, replicas, sequences in a step, layers of the model."""

    nodes: int
    data_parallel_size: int
    global_batch_size: int
    num_layers: int


def fewer_replicas(whole: Size, gpus_per_node: int, replicas: int) -> Iterator[Size]:
    """Sizes on fewer nodes, smallest first, with ``replicas`` or more and equal accumulation.

    A job keeps several nodes where ``replicas`` is above one, so that its gradients still cross
    the links between them.
    """
    gpus_of_one = whole.nodes * gpus_per_node // whole.data_parallel_size
    for nodes in range(min(replicas, 2), whole.nodes):
        kept, rest = divmod(nodes * gpus_per_node, gpus_of_one)
        batch = whole.global_batch_size * kept
        if kept >= replicas and not rest and batch % whole.data_parallel_size == 0:
            yield replace(
                whole,
                nodes=nodes,
                data_parallel_size=kept,
                global_batch_size=batch // whole.data_parallel_size,
            )


def fewer_layers(whole: Size, stages: int, at_least: int) -> Size:
    """The same size with LAYERS_PER_STAGE, or ``at_least``, layers in each of ``stages``.

    ``stages`` counts virtual ones too. Layers that do not split evenly are all kept.
    """
    if whole.num_layers % stages:
        return whole
    layers = stages * max(LAYERS_PER_STAGE, at_least)
    return replace(whole, num_layers=min(whole.num_layers, layers))


def worth_a_check(probability_fits: float | None, share: float) -> bool:
    """Whether a check on ``share`` of the GPUs costs less than the failures it saves, in the mean.

    Both lose a start and a step; without a believed probability nothing is checked.
    """
    return probability_fits is not None and 1.0 - probability_fits > share


@dataclass(frozen=True)
class Correction:
    """What turns a proxy's figures into the whole job's: ratios by the cost model.

    ``sigma`` is the deviation of the log of ``time``; ``gpus`` and ``tokens`` are the whole job's
    GPUs and tokens in a step; ``words`` say how small the proxy is.
    """

    time: float
    sigma: float
    memory: float
    gpus: int
    tokens: float
    words: str

    def of(self, measured: Measurement) -> Measurement:
        """The whole job's figures, with a note; losses of a smaller model are not compared."""
        step = corrected(measured.step_time_s, self.time, self.sigma)
        rate = Interval(self.tokens / step.value, self.tokens / step.high, self.tokens / step.low)
        note = (
            f"proxy on {self.words}: {measured.step_time_s.value:.4g} s a step, "
            f"{self.time:.2f} times that on the whole job by the cost model (±{self.sigma:.0%})"
        )
        peak = measured.peak_memory_gib
        return replace(
            measured,
            step_time_s=step,
            tokens_per_s=rate,
            tokens_per_s_per_gpu=rate.value / self.gpus,
            tflops_per_gpu=None,
            mfu=None,
            peak_memory_gib=peak * self.memory if peak is not None else None,
            objective=None,
            true_tokens_per_s=None,
            first_losses=(),
            notes=(*measured.notes, note),
        )


def corrected(measured: Interval, ratio: float, sigma: float) -> Interval:
    """A step time in s times ``ratio``, its 95% interval widened by ``sigma`` (of a logarithm)."""
    up = math.log(measured.high / measured.value)
    down = math.log(measured.value / measured.low)
    value = measured.value * ratio
    return Interval(
        value,
        value * math.exp(-math.hypot(down, 1.96 * sigma)),
        value * math.exp(math.hypot(up, 1.96 * sigma)),
    )


def due_in_full(
    records: Sequence[TrialRecord], objective: Objective, most: int
) -> TrialRecord | None:
    """What has to run in full now: the trial of a smaller job whose config never did.

    That is a check that did not run out of memory, a proxy that told nothing, or one of the
    ``most`` best by proxy. ``records`` may hold trials that have not ended: a config among them
    is not due again.
    """
    if not any(record.fidelity in SMALLER for record in records):
        return None
    in_full = {record.config_hash for record in records if record.fidelity not in SMALLER}
    due = [r for r in records if r.finished and r.config_hash not in in_full]
    at_once = (r for r in due if r.fidelity == "check" or not conclusive(r))
    first = next((r for r in at_once if r.outcome is not Outcome.OOM_GPU), None)
    costs: dict[str, float] = {}
    for record in records if first is None else ():
        cost = log_cost(record, objective)
        if cost is not None and (
            record.fidelity not in SMALLER or record.config_hash not in in_full
        ):
            costs[record.config_hash] = min(cost, costs.get(record.config_hash, cost))
    leading = sorted(costs, key=lambda config: costs[config])[:most]
    return first or next((r for r in due if r.config_hash in leading), None)


def conclusive(record: TrialRecord) -> bool:
    """Whether a trial tells of the whole job: of a smaller one only its figures and its memory."""
    if record.fidelity not in SMALLER or record.outcome is Outcome.OOM_GPU:
        return True
    return record.fidelity == "proxy" and record.outcome is Outcome.OK
