"""Small jobs that the cost model's tests share."""

from __future__ import annotations

from typing import Any

import numpy as np

from autotune.costmodel import CostModel, CostTable, Workload, nominal
from autotune.costmodel.hardware import load_hardware
from autotune.space.cluster import Cluster
from autotune.space.model import ModelShape

LLAMA_8B = ModelShape(
    num_layers=32, hidden_size=4096, ffn_hidden_size=14336, num_attention_heads=32,
    num_query_groups=8, vocab_size=128256,
)  # fmt: skip


def model_of(
    shape: ModelShape = LLAMA_8B, nodes: int = 2, batch: int = 64, **workload: Any
) -> CostModel:
    """A job on H100 nodes of eight, nominal constants unless the test brings its own."""
    cluster = Cluster(nodes=nodes, gpus_per_node=8, hardware=load_hardware("h100_80gb"))
    known = {"seq_length": 4096, "framework": "generic", **workload}
    return CostModel(shape, cluster, Workload(batch, **known), nominal())


def table_of(model: CostModel, **columns: list[Any]) -> CostTable:
    """The table of columns given as lists under canonical names."""
    return model.prepare({name: np.array(values) for name, values in columns.items()})
