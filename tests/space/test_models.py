"""Shipped model shapes against published sizes, and shapes read from Hugging Face configs."""

from __future__ import annotations

import json

import pytest

from autotune.content import list_content
from autotune.errors import BadInput
from autotune.space import load_model

PUBLISHED_BILLIONS = {
    "qwen3-30b-a3b": 30.5,
    "qwen3-235b-a22b": 235.0,
    "qwen2.5-72b": 72.7,
    "gpt-oss-120b": 116.8,
    "mixtral-8x22b": 141.0,
    "nemotron-4-15b": 15.6,
    "nemotron-4-340b": 341.0,
    "deepseek-v3": 671.0,
    "gpt-neo-1.3b": 1.316,
    "gpt2-124m": 0.124,
    "gpt2-medium": 0.355,
    "gpt2-large": 0.774,
    "gpt2-xl": 1.558,
    "gpt3-175b": 175.0,
    "llama-13b": 13.0,
    "llama-2-13b": 13.0,
    "llama-2-70b": 69.0,
    "llama-2-7b": 6.74,
    "llama-3.1-405b": 405.9,
    "llama-3.1-70b": 70.55,
    "llama-3.1-8b": 8.03,
    "llama-3.2-1b": 1.236,
    "llama-3.2-3b": 3.21,
    "llama-30b": 32.5,
    "llama-65b": 65.2,
    "llama-7b": 6.74,
    "mistral-7b": 7.24,
    "mixtral-8x7b": 46.7,
    "opt-1.3b": 1.316,
    "qwen2.5-7b": 7.62,
}
NAMES = sorted(path.stem for path in list_content("search_spaces", "models/*.yaml"))


def parameters(m):
    """Weights of matrices and embeddings; norms and biases are below the tolerance."""
    if m.kv_lora_rank:
        queries = m.num_attention_heads * (m.qk_head_dim + m.qk_pos_emb_head_dim)
        attention = m.hidden_size * m.q_lora_rank + m.q_lora_rank * queries
        attention += m.hidden_size * (m.kv_lora_rank + m.qk_pos_emb_head_dim)
        attention += m.kv_lora_rank * m.num_attention_heads * (m.qk_head_dim + m.v_head_dim)
        attention += m.num_attention_heads * m.v_head_dim * m.hidden_size
    else:
        groups = 2 * m.num_attention_heads + 2 * m.num_query_groups
        attention = m.hidden_size * m.head_dim * groups
    matrices = 3 if m.gated_linear_unit else 2
    dense = matrices * m.hidden_size * m.ffn_hidden_size
    experts = (m.num_experts or 0) * (m.moe_ffn_hidden_size or 0)
    sparse = matrices * m.hidden_size * (experts + (m.moe_shared_expert_intermediate_size or 0))
    sparse_layers = m.num_layers - m.moe_first_dense_layers if m.num_experts else 0
    total = m.num_layers * attention + sparse_layers * sparse
    total += (m.num_layers - sparse_layers) * dense
    total += m.vocab_size * m.hidden_size * (1 if m.tie_embeddings else 2)
    if m.position_embedding_type == "learned_absolute":
        total += m.max_position_embeddings * m.hidden_size
    return total


@pytest.mark.parametrize("name", NAMES)
def test_shipped_shapes_have_the_published_number_of_parameters(name):
    model = load_model(name)
    assert model.num_attention_heads % model.num_query_groups == 0
    if name.startswith("tiny"):
        assert parameters(model) < 5e6
    else:
        assert parameters(model) / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], rel=0.011)


def write(tmp_path, **config):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return str(path)


LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
}
CONFIGS = {
    "llama-3.1-8b": LLAMA,
    "llama-3.2-3b": LLAMA
    | {"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24}
    | {"intermediate_size": 8192, "tie_word_embeddings": True, "head_dim": 128},
    "mistral-7b": LLAMA
    | {"model_type": "mistral", "vocab_size": 32000, "max_position_embeddings": 32768}
    | {"rope_theta": 10000.0, "sliding_window": 4096},
    "qwen2.5-7b": LLAMA
    | {"model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28}
    | {"num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944}
    | {"vocab_size": 152064, "rope_theta": 1000000.0},
    "mixtral-8x7b": LLAMA
    | {"model_type": "mixtral", "vocab_size": 32000, "max_position_embeddings": 32768}
    | {"rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2},
    "deepseek-v3": LLAMA
    | {"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61}
    | {"num_attention_heads": 128, "num_key_value_heads": 128, "intermediate_size": 18432}
    | {"vocab_size": 129280, "max_position_embeddings": 163840, "rope_theta": 10000}
    | {"n_routed_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048}
    | {"n_shared_experts": 1, "first_k_dense_replace": 3, "moe_layer_freq": 1}
    | {"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128}
    | {"qk_rope_head_dim": 64, "v_head_dim": 128, "head_dim": 64},
    "gpt2-xl": {
        "model_type": "gpt2",
        "n_embd": 1600,
        "n_layer": 48,
        "n_head": 25,
        "n_positions": 1024,
        "vocab_size": 50257,
    },
    "opt-1.3b": {
        "model_type": "opt",
        "hidden_size": 2048,
        "ffn_dim": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "vocab_size": 50272,
    },
    "gpt-neo-1.3b": {
        "model_type": "gpt_neo",
        "hidden_size": 2048,
        "intermediate_size": None,
        "num_layers": 24,
        "num_heads": 16,
        "max_position_embeddings": 2048,
        "vocab_size": 50257,
    },
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_hugging_face_configs_give_the_shipped_shapes(name, tmp_path):
    shape = load_model(write(tmp_path, **CONFIGS[name]))
    assert shape.model_copy(update={"name": name}) == load_model(name)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "lama"}, "unknown model_type 'lama'. Did you mean 'llama'?"),
        ({}, "unknown model_type"),
        ({"model_type": "llama", "hidden_size": 64}, "llama configs need the key"),
        (LLAMA | {"num_hidden_layers": -1}, "num_layers: Input should be greater than 0"),
        (LLAMA | {"hidden_size": "big"}, "hidden_size"),
        (LLAMA | {"rope_theta": "x"}, "wrong kind"),
        (LLAMA | {"head_dim": 1.5}, "kv_channels: Input should be a valid integer"),
        (LLAMA | {"n_shared_experts": {}, "n_routed_experts": {"a": 1}}, "num_experts"),
        ({"model_type": ["llama"]}, "unknown model_type"),
    ],
)
def test_unusable_configs_are_bad_input(config, message, tmp_path):
    with pytest.raises(BadInput, match=r"config\.json") as caught:
        load_model(write(tmp_path, **config))
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000, b"null"])
def test_broken_config_files_are_bad_input(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"config\.json"):
        load_model(str(tmp_path / "config.json"))
