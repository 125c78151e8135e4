"""A model's shape as the `config.json` that Hugging Face builds a model from.

So that a space that names a model needs neither a download nor a licence click: the weights are
random, every size is real.
"""

from __future__ import annotations

from typing import Any

from autotune.errors import BadInput
from autotune.space.model import ModelShape


def hf_config(shape: ModelShape, seq_length: int) -> dict[str, Any]:
    """Keys of `config.json` for a Llama, Qwen2 or GPT-2 shaped decoder.

    BadInput for shapes that none of the three expresses (mixture of experts, latent attention,
    other mixes of norm, position and biases): point `options.model_path` at the model instead.
    """
    if shape.num_experts is not None or shape.kv_lora_rank is not None:
        raise _cannot(shape, "experts or latent attention")
    if shape.position_embedding_type == "learned_absolute":
        return _gpt2(shape, seq_length)
    if not (shape.normalization == "RMSNorm" and shape.gated_linear_unit):
        raise _cannot(shape, f"{shape.normalization} with these position embeddings")
    if shape.add_bias_linear or shape.position_embedding_type != "rope":
        raise _cannot(shape, "biases in every linear layer, or no position embedding")
    kind = ("qwen2", "Qwen2ForCausalLM") if shape.add_qkv_bias else ("llama", "LlamaForCausalLM")
    return {
        "model_type": kind[0],
        "architectures": [kind[1]],
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.ffn_hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_query_groups,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": max(shape.max_position_embeddings, seq_length),
        "tie_word_embeddings": shape.tie_embeddings,
        "rms_norm_eps": 1e-5,
        "rope_theta": shape.rotary_base,
        "use_cache": False,
    }


def _gpt2(shape: ModelShape, seq_length: int) -> dict[str, Any]:
    if shape.gated_linear_unit or shape.num_query_groups != shape.num_attention_heads:
        raise _cannot(shape, "learned positions with a gated MLP or grouped queries")
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": shape.hidden_size,
        "n_inner": shape.ffn_hidden_size,
        "n_layer": shape.num_layers,
        "n_head": shape.num_attention_heads,
        "vocab_size": shape.vocab_size,
        "n_positions": max(shape.max_position_embeddings, seq_length),
        "tie_word_embeddings": shape.tie_embeddings,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "use_cache": False,
    }


def _cannot(shape: ModelShape, what: str) -> BadInput:
    return BadInput(
        f"model {shape.name or 'of this space'}: {what} has no config.json here. Set "
        "options.model_path to a Hugging Face config.json or checkpoint folder."
    )
