"""Canonical parameters in NeMo's two tongues, one table for writing and reading.

NeMo 1 is told by YAML in the form of the NeMo launcher's `conf/peft/llama/squad.yaml`, NeMo 2
(Megatron-Bridge) by dotted fields of its recipe's ConfigContainer. Key paths are checked
against the real files by `scripts/check_nemo_keys.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autotune.config import ParameterValue
from autotune.frameworks._space import Allowed


@dataclass(frozen=True)
class Key:
    """Where one parameter stands: key paths in NeMo 1's YAML and fields of a Bridge recipe.

    ``words`` maps canonical values to what is written there, where the two differ. Several
    paths are written alike and the first is read.
    """

    nemo1: tuple[str, ...]
    bridge: tuple[str, ...] = ()
    words1: Mapping[ParameterValue, Any] | None = None
    words2: Mapping[ParameterValue, Any] | None = None

    def paths(self, version: int) -> tuple[str, ...]:
        """The paths of one version; empty where it cannot say the parameter."""
        return self.nemo1 if version == 1 else self.bridge

    def words(self, version: int) -> Mapping[ParameterValue, Any] | None:
        """The version's own words for values."""
        return self.words1 if version == 1 else self.words2


_NONE: Mapping[ParameterValue, Any] = {"none": None, "selective": "selective", "full": "full"}

KEYS: Mapping[str, Key] = {
    "tensor_model_parallel_size": Key(
        ("model.tensor_model_parallel_size",), ("model.tensor_model_parallel_size",)
    ),
    "pipeline_model_parallel_size": Key(
        ("model.pipeline_model_parallel_size",), ("model.pipeline_model_parallel_size",)
    ),
    "micro_batch_size": Key(("model.micro_batch_size",), ("train.micro_batch_size",)),
    "global_batch_size": Key(("model.global_batch_size",), ("train.global_batch_size",)),
    "seq_length": Key(
        ("model.data.train_ds.max_seq_length", "model.data.validation_ds.max_seq_length"),
        ("model.seq_length", "dataset.seq_length"),
    ),
    "sequence_parallel": Key(("model.sequence_parallel",), ("model.sequence_parallel",)),
    "recompute_granularity": Key(
        ("model.activations_checkpoint_granularity",), ("model.recompute_granularity",),
        _NONE, _NONE,
    ),
    "recompute_method": Key(("model.activations_checkpoint_method",), ("model.recompute_method",)),
    "recompute_num_layers": Key(
        ("model.activations_checkpoint_num_layers",), ("model.recompute_num_layers",)
    ),
    "megatron_amp_O2": Key(("model.megatron_amp_O2",)),
    "use_distributed_optimizer": Key(
        ("model.optim.name",),
        ("optimizer.use_distributed_optimizer", "ddp.use_distributed_optimizer"),
        {False: "fused_adam", True: "distributed_fused_adam"},
    ),
    "precision": Key(
        ("trainer.precision",), ("mixed_precision",),
        {"fp16": 16, "bf16": "bf16", "fp32": 32},
        {"fp16": "fp16_mixed", "bf16": "bf16_mixed"},
    ),
}  # fmt: skip

ALLOWED: Mapping[str, Allowed] = {
    "tensor_model_parallel_size": int,
    "pipeline_model_parallel_size": int,
    "micro_batch_size": int,
    "global_batch_size": int,
    "seq_length": int,
    "sequence_parallel": bool,
    "recompute_granularity": tuple(_NONE),
    "recompute_method": ("uniform", "block"),
    "recompute_num_layers": int,
    "megatron_amp_O2": bool,
    "use_distributed_optimizer": bool,
    "precision": ("fp16", "bf16", "fp32"),
    "optimizer": ("adam", "adamw"),
}


def allowed(version: int) -> dict[str, Allowed]:
    """What a NeMo version can be told, by canonical name."""
    result = {k: v for k, v in ALLOWED.items() if k not in KEYS or KEYS[k].paths(version)}
    if version == 2:
        result["precision"] = ("fp16", "bf16")
    return result


def write_values(values: Mapping[str, ParameterValue], version: int) -> dict[str, Any]:
    """Key path -> what is written there, for all values that are not None."""
    flat: dict[str, Any] = {}
    for name, key in KEYS.items():
        value = values.get(name)
        if value is None:
            continue
        words = key.words(version)
        flat.update(dict.fromkeys(key.paths(version), value if words is None else words[value]))
    return flat


def read_values(flat: Mapping[str, Any], version: int) -> dict[str, ParameterValue]:
    """The canonical values that key paths say; a path that is not there gives None."""
    values: dict[str, ParameterValue] = {}
    for name, key in KEYS.items():
        if not key.paths(version):
            continue
        written = flat.get(key.paths(version)[0])
        words = key.words(version)
        if words is None:
            values[name] = written
        else:
            values[name] = next((k for k, word in words.items() if word == written), None)
    return values


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted paths as a tree."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, leaf = path.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = value
    return tree


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A tree as (dotted path, leaf) pairs; lists are leaves."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
