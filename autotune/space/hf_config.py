"""A model's shape from the `config.json` that Hugging Face keeps beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autotune.errors import BadInput
from autotune.space.model import ModelShape

MAX_BYTES = 1 << 20

GPT2_LIKE = frozenset({"gpt2", "gpt_neo", "gpt_neox", "opt", "gptj", "gpt_bigcode"})
GATED_LIKE = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "olmo2", "mixtral"}
    | {"qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3"}
)


def shape_from_hf(path: Path) -> ModelShape:
    """Read a config.json; BadInput names the file and the key that is missing or unknown."""
    try:
        if not path.is_file():
            raise BadInput(f"{path}: no such file")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        data = json.loads(raw) if len(raw) <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a readable config.json: {error}") from None
    if not isinstance(data, dict):
        raise BadInput(f"{path}: not a Hugging Face config.json (a JSON object)")
    kind = str(data.get("model_type"))
    try:
        if kind in GPT2_LIKE:
            fields = _gpt2_like(data)
        elif kind in GATED_LIKE:
            fields = _gated(data)
        else:
            raise BadInput.unknown("model_type", kind, GPT2_LIKE | GATED_LIKE, str(path))
        name = str(data.get("_name_or_path") or path.resolve().parent.name)
        return ModelShape.model_validate({"name": name, **fields}, strict=True)
    except KeyError as error:
        raise BadInput(f"{path}: {kind} configs need the key {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path}: a value is of the wrong kind: {error}") from None


def _first(data: Mapping[str, Any], *keys: str) -> Any:
    """The first key that is there and not null; KeyError names the first of them."""
    for key in keys:
        if data.get(key) is not None:
            return data[key]
    raise KeyError(keys[0])


def _gpt2_like(data: Mapping[str, Any]) -> dict[str, Any]:
    hidden = _first(data, "n_embd", "hidden_size")
    heads = _first(data, "n_head", "num_attention_heads", "num_heads")
    ffn = data.get("n_inner") or data.get("ffn_dim") or data.get("intermediate_size")
    rotary = data["model_type"] in ("gpt_neox", "gptj")
    return {
        "num_layers": _first(data, "n_layer", "num_hidden_layers", "num_layers"),
        "hidden_size": hidden,
        "ffn_hidden_size": ffn or 4 * hidden,
        "num_attention_heads": heads,
        "num_query_groups": 1 if data.get("multi_query") else heads,
        "vocab_size": _first(data, "vocab_size"),
        "max_position_embeddings": _first(data, "n_positions", "max_position_embeddings"),
        "position_embedding_type": "rope" if rotary else "learned_absolute",
        "gated_linear_unit": False,
        "tie_embeddings": data.get("tie_word_embeddings", not rotary),
        "add_bias_linear": True,
        "add_qkv_bias": data["model_type"] != "gpt_neo",
        "normalization": "LayerNorm",
    }


def _gated(data: Mapping[str, Any]) -> dict[str, Any]:
    hidden, heads = _first(data, "hidden_size"), _first(data, "num_attention_heads")
    head_dim = None if data.get("kv_lora_rank") else data.get("head_dim")
    fields = {
        "num_layers": _first(data, "num_hidden_layers"),
        "hidden_size": hidden,
        "ffn_hidden_size": _first(data, "intermediate_size"),
        "num_attention_heads": heads,
        "num_query_groups": data.get("num_key_value_heads") or heads,
        "kv_channels": head_dim if head_dim and head_dim * heads != hidden else None,
        "vocab_size": _first(data, "vocab_size"),
        "max_position_embeddings": data.get("max_position_embeddings", 0),
        "tie_embeddings": data.get("tie_word_embeddings", data["model_type"].startswith("gemma")),
        "add_bias_linear": bool(data.get("mlp_bias", False)),
        "add_qkv_bias": data.get("attention_bias", data["model_type"].startswith("qwen2")),
        "rotary_base": _rotary_base(data),
    }
    return fields | _experts(data) | _latent_attention(data)


def _rotary_base(data: Mapping[str, Any]) -> float:
    nested = data.get("rope_parameters")
    nested = nested if isinstance(nested, Mapping) else {}
    return float(data.get("rope_theta") or nested.get("rope_theta") or 10000.0)


def _experts(data: Mapping[str, Any]) -> dict[str, Any]:
    experts = next(
        (
            data[key]
            for key in ("num_local_experts", "n_routed_experts", "num_experts")
            if data.get(key)
        ),
        None,
    )
    if not experts:
        return {}
    ffn = data.get("moe_intermediate_size") or data["intermediate_size"]
    shared = data.get("shared_expert_intermediate_size")
    if data.get("n_shared_experts"):
        shared = data["n_shared_experts"] * ffn
    return {
        "num_experts": experts,
        "moe_router_topk": data.get("num_experts_per_tok", 1),
        "moe_ffn_hidden_size": ffn,
        "moe_shared_expert_intermediate_size": shared,
        "moe_layer_freq": data.get("moe_layer_freq", data.get("decoder_sparse_step", 1)),
        "moe_first_dense_layers": data.get("first_k_dense_replace", 0),
    }


def _latent_attention(data: Mapping[str, Any]) -> dict[str, Any]:
    if not data.get("kv_lora_rank"):
        return {}
    return {
        "q_lora_rank": data.get("q_lora_rank"),
        "kv_lora_rank": data["kv_lora_rank"],
        "qk_head_dim": data["qk_nope_head_dim"],
        "qk_pos_emb_head_dim": data["qk_rope_head_dim"],
        "v_head_dim": data["v_head_dim"],
    }
