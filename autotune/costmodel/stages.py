"""Which layers a pipeline stage holds: the end stages differ, and some frameworks balance.

Only three stages can be the slowest or the fullest: the first (embedding, most micro batches
in flight), the last (output head), and the largest of the middle ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.costmodel.counts import dense_layer, expert_layer, expert_layer_count
from autotune.costmodel.workload import Conventions
from autotune.space.model import ModelShape

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StageCuts:
    """Layers of the first, the largest middle and the output head's stage, n values each.

    With one stage all three are the whole model; with two, the middle has no layers.
    ``total`` is the number of layers of the whole model.
    """

    first: Floats
    middle: Floats
    last: Floats
    total: int

    def take(self, rows: npt.NDArray[np.intp]) -> StageCuts:
        """The cuts of a subset of rows."""
        return StageCuts(
            self.first[rows], self.middle[rows], self.last[rows], self.total
        )  # fmt: skip


def stage_layers(shape: ModelShape, pp: int, by_cost: bool) -> list[int]:
    """Layers on each of ``pp`` stages; the last holds the output head and the loss.

    Evenly: remainders go to the middle stages, away from embedding and head. By cost: blocks
    are dealt in order, a stage is left once the cumulative cost reaches its share, the output
    head counting as its matmul (nanotron's rule).
    """
    count = shape.num_layers
    if pp == 1:
        return [count]
    if not by_cost:
        base, rest = divmod(count, pp)
        order = sorted(range(pp), key=lambda s: (s in (0, pp - 1), s == pp - 1, s))
        extra = set(order[:rest])
        return [base + (s in extra) for s in range(pp)]
    sparse = expert_layer_count(shape)
    dense_cost = dense_layer(shape).attention + dense_layer(shape).mlp
    sparse_cost = dense_cost
    if sparse and shape.num_experts:
        layer = expert_layer(shape)
        active = layer.experts * shape.moe_router_topk / shape.num_experts
        sparse_cost = int(layer.attention + layer.mlp + active)
    costs = [dense_cost] * (count - sparse) + [sparse_cost] * sparse
    total = sum(costs) + shape.vocab_size * shape.hidden_size
    layers, stage, done = [0] * pp, 0, 0
    for cost in costs:
        layers[stage] += 1
        done += cost
        if done * pp >= total * (stage + 1) and stage < pp - 1:
            stage += 1
    return layers


def cut_stages(shape: ModelShape, rules: Conventions, pp: Floats) -> StageCuts:
    """First, largest middle and last stage for every row; one computation per distinct size."""
    first, middle, last = (np.empty(len(pp)) for _ in range(3))
    for size in np.unique(pp):
        layers = stage_layers(shape, int(size), rules.stage_cut == "by_cost")
        rows = pp == size
        first[rows], last[rows] = layers[0], layers[-1]
        middle[rows] = max(layers[1:-1], default=0)
    return StageCuts(first, middle, last, shape.num_layers)
