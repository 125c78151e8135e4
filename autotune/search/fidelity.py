"""Cheaper looks at a config before its full measurement, where that saves more than it costs.

A dry memory check runs one step. A proxy runs a huge job small: fewer layers in each stage,
fewer data-parallel replicas; the cost model turns its step time into the whole job's. Neither
decides a study: the finalists always run in full. Pure functions, called by whoever launches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autotune.errors import BadInput
from autotune.trial import Interval, Prediction


def worth_a_dry_check(prediction: Prediction, check_s: float, trial_s: float) -> bool:
    """Whether one step first costs less than it saves, in the mean.

    ``check_s`` is what the check takes besides the trial (its own start, one step), ``trial_s``
    what a trial loses that runs out of memory only once everything stands. Without a believed
    probability nothing is checked.
    """
    if prediction.probability_fits is None:
        return False
    return (1.0 - prediction.probability_fits) * trial_s > check_s


@dataclass(frozen=True)
class Proxy:
    """A smaller job that stands for a huge one: layers and data-parallel replicas."""

    num_layers: int
    data_parallel_size: int

    def gpus(self, model_parallel_size: int) -> int:
        """How many GPUs it takes."""
        return self.data_parallel_size * model_parallel_size


def proxy_for(
    num_layers: int,
    stages: int,
    data_parallel_size: int,
    layers_per_stage: int = 2,
    replicas: int = 2,
) -> Proxy:
    """The smallest proxy that keeps a job's shape.

    ``stages`` counts virtual stages too (pipeline size times virtual size), each of which keeps
    ``layers_per_stage`` layers; ``replicas`` keeps the gradient reduction there. Never larger
    than the job. BadInput when the layers do not split evenly over the stages.
    """
    if stages <= 0 or num_layers % stages:
        raise BadInput(
            f"{num_layers} layers do not split over {stages} stages: a proxy needs even stages."
        )
    layers = min(num_layers, stages * layers_per_stage)
    return Proxy(layers, min(data_parallel_size, replicas))


def corrected(
    measured: Interval, predicted_proxy_s: float, predicted_full_s: float, sigma: float
) -> Interval:
    """The whole job's step time in s from its proxy's, by the ratio of the two predictions.

    ``sigma`` is the log-space deviation of that ratio; it widens the interval at 95%.
    """
    scale = predicted_full_s / predicted_proxy_s
    up = math.log(measured.high / measured.value)
    down = math.log(measured.value / measured.low)
    value = measured.value * scale
    return Interval(
        value,
        value * math.exp(-math.hypot(down, 1.96 * sigma)),
        value * math.exp(math.hypot(up, 1.96 * sigma)),
    )
