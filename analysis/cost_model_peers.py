"""What peers use in the cost model's place, on the same rows: the comparison's other columns.

Three formulas: Megatron-LM's theoretical memory (weights and optimizer at 18 bytes per
parameter, or 6 + 12 / dp with a distributed optimizer; activations s b h L (18 + 4 ffn / h)
with the pipeline's depth), a lower bound in the manner of llm-analysis (sharded states,
activations by Korthikanti et al. 2022 without buffers), and time from 6 N D at a fixed share
of the peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.costmodel.counts import active_parameters, total_parameters
from autotune.costmodel.layout import complete_layout
from autotune.costmodel.measured import Task

Floats = npt.NDArray[np.float64]
GIB = float(2**30)
ASSUMED_MFU = 0.4


@dataclass(frozen=True)
class Peers:
    """GiB and seconds per config of a task, by the peers' formulas."""

    megatron_memory_gib: Floats
    lower_bound_gib: Floats
    six_nd_s: Floats


def peers_of(task: Task) -> Peers:
    """Evaluate the peers' formulas on every config of a task."""
    model, shape = task.model, task.model.shape
    layout = complete_layout(
        task.columns, shape, model.workload, model.conventions, model.cluster.world_size
    )
    parameters = total_parameters(shape) / (layout.tp * layout.pp)
    spread = np.where(layout.zero >= 1, layout.dp, 1.0)
    h, ffn = shape.hidden_size, shape.ffn_hidden_size
    tokens = layout.micro_batch * layout.seq / layout.cp
    per_layer = tokens * h * (18.0 + 4.0 * ffn / h)
    depth = np.minimum(layout.pp, layout.microbatches)
    activations = per_layer * shape.num_layers / layout.pp * depth / layout.tp
    logits = np.where(layout.pp == 1, tokens * shape.vocab_size * 4.0 / layout.tp, 0.0)
    megatron = parameters * (6.0 + 12.0 / spread) + activations + logits
    kept = np.where(layout.recompute_full > 0, 2.0, 34.0) * tokens * h / layout.tp
    bound = parameters * (4.0 + 12.0 / spread) + kept * shape.num_layers / layout.pp
    batch = layout.microbatches * layout.micro_batch * layout.dp * layout.seq
    rate = model.peak_tflops(model.workload.precision) * 1e12 * ASSUMED_MFU * layout.world
    return Peers(megatron / GIB, bound / GIB, 6.0 * active_parameters(shape) * batch / rate)
