"""One point of a search space: frozen canonical values, what follows from them, and a hash.

Equal hash means the same configuration, so nothing is measured twice by accident. Short
labels such as ``tp8_pp2_mbs1`` are for people; they are never parsed back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

ParameterValue = bool | int | float | str | None
"""A parameter's value; ``None`` says that a conditional parameter does not exist here."""

SHORT_NAMES = {
    "tensor_model_parallel_size": "tp",
    "pipeline_model_parallel_size": "pp",
    "virtual_pipeline_model_parallel_size": "vpp",
    "context_parallel_size": "cp",
    "expert_model_parallel_size": "ep",
    "micro_batch_size": "mbs",
    "global_batch_size": "gbs",
    "zero_stage": "zero",
    "sequence_parallel": "sp",
    "recompute_granularity": "recompute",
    "recompute_num_layers": "layers",
    "recompute_method": "method",
    "use_distributed_optimizer": "distopt",
    "overlap_grad_reduce": "ogr",
    "overlap_param_gather": "opg",
    "empty_unused_memory_level": "empty",
    "gradient_checkpointing": "ckpt",
    "torch_compile": "compile",
}


@dataclass(frozen=True)
class Config:
    """Canonical parameter values of one trial and the sizes derived from them.

    ``values`` holds every parameter of the space (``None``: inactive conditional);
    ``derived`` holds pure consequences such as ``data_parallel_size`` and
    ``gradient_accumulation_steps``, which take no part in the hash.
    """

    values: Mapping[str, ParameterValue]
    derived: Mapping[str, int] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))
        object.__setattr__(self, "derived", MappingProxyType(dict(self.derived)))

    def __hash__(self) -> int:
        return hash(self.hash)

    def __getitem__(self, name: str) -> ParameterValue:
        """A parameter's value or a derived size; KeyError when it is neither."""
        if name in self.values:
            return self.values[name]
        return self.derived[name]

    def get(self, name: str, default: ParameterValue = None) -> ParameterValue:
        """Like ``[]``, with a default for unknown names and for inactive parameters."""
        value = self.values.get(name, self.derived.get(name))
        return default if value is None else value

    @cached_property
    def hash(self) -> str:
        """16 hex digits over the active values; inactive parameters do not count."""
        active = {name: value for name, value in self.values.items() if value is not None}
        text = json.dumps(active, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A short name for people, such as ``tp8_pp2_mbs1``."""
        parts = []
        for name, value in self.values.items():
            if value is None or value is False:
                continue
            short = SHORT_NAMES.get(name, name)
            parts.append(short if value is True else f"{short}{value}")
        return "_".join(parts)
