"""megatron-core's local transformer layers with a norm that knows sequence parallelism.

The wheel's own norm for use without Transformer Engine and Apex refuses sequence parallelism.
All it takes is the mark by which megatron-core sums a norm's gradients over the tensor-parallel
ranks, which is set here; the arithmetic is torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.transformer_block import (
    TransformerBlockSubmodules,
    get_num_layers_to_build,
)
from megatron.core.transformer.transformer_config import TransformerConfig


class MarkedNorm:
    """Builds torch's LayerNorm or RMSNorm, its parameters marked for sequence parallelism."""

    def __new__(  # type: ignore[misc]
        cls, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **_: Any
    ) -> torch.nn.Module:
        kinds = {"LayerNorm": torch.nn.LayerNorm, "RMSNorm": torch.nn.RMSNorm}
        norm = kinds[config.normalization](hidden_size, eps=eps)
        for parameter in norm.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        return norm


def block_spec(config: TransformerConfig, virtual_stage: int | None) -> TransformerBlockSubmodules:
    """The layers of this rank's (virtual) stage and the norm that ends the model."""
    layer = get_gpt_layer_local_spec(normalization=config.normalization)
    layer.submodules.input_layernorm = MarkedNorm
    layer.submodules.pre_mlp_layernorm = MarkedNorm
    count = get_num_layers_to_build(config, virtual_stage)
    return TransformerBlockSubmodules(layer_specs=[layer] * count, layer_norm=MarkedNorm)
