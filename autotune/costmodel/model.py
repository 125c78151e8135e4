"""The cost model of one job: a transformer, the machine it runs on, the framework that runs it.

    CostModel.for_space(space).prepare(legal.columns()).predict() -> Costs

No GPU, no framework and no fitted table is needed: what is not fitted has wide bands.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.costmodel.columns import ColumnReader, Columns, distinct_rows
from autotune.costmodel.compose import compose
from autotune.costmodel.constants import Constants, fitted_constants
from autotune.costmodel.counts import total_parameters
from autotune.costmodel.layout import complete_layout
from autotune.costmodel.links import Fabric
from autotune.costmodel.memory import memory_parts
from autotune.costmodel.table import CostTable
from autotune.costmodel.timing import time_parts
from autotune.costmodel.workload import Conventions, Workload, conventions_for, normal_precision
from autotune.errors import BadInput
from autotune.space.cluster import Cluster, Hardware
from autotune.space.model import ModelShape


@dataclass(frozen=True)
class CostModel:
    """Memory and step time of every layout of one job.

    ``constants`` default to what was fitted for this (GPU, framework). Raises BadInput when
    the cluster names no hardware.
    """

    shape: ModelShape
    cluster: Cluster
    workload: Workload
    constants: Constants = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.cluster.hardware is None:
            raise BadInput("the cost model needs cluster.hardware: name a file of hardware/")
        if self.constants is None:
            object.__setattr__(self, "constants", self._fitted)

    @property
    def hardware(self) -> Hardware:
        """The GPU of the cluster."""
        assert self.cluster.hardware is not None
        return self.cluster.hardware

    @property
    def _fitted(self) -> Constants:
        return fitted_constants(self.hardware, self.workload.framework)

    @property
    def conventions(self) -> Conventions:
        """How the workload's framework stores and overlaps."""
        return conventions_for(self.workload.framework)

    @classmethod
    def for_space(cls, space: Any) -> CostModel | None:
        """The model of a SearchSpace; None where model or hardware is unknown."""
        if space.model is None or space.cluster.hardware is None:
            return None
        contract = space.contract
        if not contract.global_batch_size or not contract.seq_length:
            return None
        workload = Workload(
            global_batch_size=int(contract.global_batch_size),
            seq_length=int(contract.seq_length),
            precision=str(contract.precision or "bf16"),
            optimizer=str(contract.optimizer or "adam"),
            framework=str(space.framework or "generic"),
            trainable_share=_trainable_share(space),
        )
        return cls(space.model, space.cluster, workload)

    @property
    def capacity_gib(self) -> float:
        """Device memory of one GPU, GiB."""
        return self.hardware.memory_gib

    def peak_tflops(self, precision: str) -> float:
        """Dense peak that MFU is counted against, TFLOP/s, at a precision by any of its names."""
        rates = self.hardware.tflops
        return rates.get(normal_precision(precision)) or rates.get("bf16") or max(rates.values())

    def prepare(self, columns: Columns) -> CostTable:
        """Everything that does not depend on fitted constants, for n rows of columns.

        ``columns`` maps canonical parameter names to arrays of one length (None: inactive);
        missing names take the framework's defaults. With a column ``framework`` each row has its
        own framework's conventions, and what was fitted for it: constants then mean how far all
        frameworks stand from that.
        """
        if "framework" in columns:
            return self._by_framework(columns)
        if "fp8" not in self.hardware.tflops:
            columns = {k: v for k, v in columns.items() if k != "lm_head_precision"}
        kept, row = distinct_rows(columns)
        layout = complete_layout(
            kept, self.shape, self.workload, self.conventions, self.cluster.world_size
        )
        memory = memory_parts(self.shape, layout, self.conventions, self.workload)
        time = time_parts(
            self.shape, layout, self.conventions, self.workload, self.hardware,
            Fabric.of(self.cluster),
        )  # fmt: skip
        physics = compose(
            layout, time, memory, self.constants, self._peak_flops(kept), self.capacity_gib
        )
        return CostTable(physics, row, self.constants)

    def _by_framework(self, columns: Columns) -> CostTable:
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        chosen = arrays.pop("framework").astype(str)
        rows, tables = [], []
        for name in dict.fromkeys(chosen.tolist()):
            own = replace(self, workload=replace(self.workload, framework=name))
            part = np.flatnonzero(chosen == name)
            rows.append(part)
            table = own.prepare({key: values[part] for key, values in arrays.items()})
            apart = own._fitted.mean - self._fitted.mean
            tables.append(replace(table, physics=table.physics.shifted(apart)))
        return CostTable.joined(tables).take(np.argsort(np.concatenate(rows)))

    def _peak_flops(self, columns: Columns) -> npt.NDArray[np.float64]:
        """FLOP/s (n,) at each row's own precision."""
        precisions = ColumnReader(columns).texts("precision", self.workload.precision)
        rates = {name: 1e12 * self.peak_tflops(name) for name in set(precisions.tolist())}
        return np.array([rates[name] for name in precisions.tolist()], dtype=np.float64)


def _trainable_share(space: Any) -> float:
    """1, or what low-rank adapters on the attention projections add to a frozen model."""
    rank = space.options.get("lora_rank")
    if not rank:
        return 1.0
    shape: ModelShape = space.model
    width = shape.num_attention_heads * shape.head_dim
    heads = width + 2 * shape.num_query_groups * shape.head_dim
    added = shape.num_layers * int(rank) * (2 * shape.hidden_size + width + heads)
    return float(added / total_parameters(shape))
