"""Parameter counts of a transformer: what published totals check, and what memory follows from.

Counts are exact for the architectures that ``ModelShape`` can say. Sharded counts are floats,
since a column of layouts divides them by its own parallel sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from autotune.space.model import ModelShape


@dataclass(frozen=True)
class LayerCounts:
    """Parameters of one layer, split by what may shard them (elements).

    ``attention`` and ``mlp`` are split by tensor parallelism, ``experts`` by expert (and
    tensor) parallelism, ``replicated`` (norms, router, biases added after a reduction) by none.
    """

    attention: int
    mlp: int
    experts: int
    replicated: int

    @property
    def total(self) -> int:
        """All parameters of the layer."""
        return self.attention + self.mlp + self.experts + self.replicated


def norm_parameters(shape: ModelShape, width: int) -> int:
    """Parameters of one norm over ``width`` elements."""
    return width * (2 if shape.normalization == "LayerNorm" else 1)


def _attention(shape: ModelShape) -> tuple[int, int]:
    """(tensor-parallel, replicated) parameters of one attention block without its norm."""
    h, heads = shape.hidden_size, shape.num_attention_heads
    if shape.kv_lora_rank is not None:
        nope = shape.qk_head_dim or shape.head_dim
        rope = shape.qk_pos_emb_head_dim or 0
        value = shape.v_head_dim or nope
        query_width = heads * (nope + rope)
        replicated = h * (shape.kv_lora_rank + rope) + norm_parameters(shape, shape.kv_lora_rank)
        if shape.q_lora_rank is None:
            query = h * query_width
        else:
            replicated += h * shape.q_lora_rank + norm_parameters(shape, shape.q_lora_rank)
            query = shape.q_lora_rank * query_width
        sharded = query + shape.kv_lora_rank * heads * (nope + value) + heads * value * h
        return sharded, replicated
    query_width = heads * shape.head_dim
    kv_width = shape.num_query_groups * shape.head_dim
    sharded = h * (query_width + 2 * kv_width) + query_width * h
    if shape.add_bias_linear or shape.add_qkv_bias:
        sharded += query_width + 2 * kv_width
    return sharded, h if shape.add_bias_linear else 0


def _mlp(shape: ModelShape, width: int) -> tuple[int, int]:
    """(tensor-parallel, replicated) parameters of one MLP of a given inner width."""
    inputs = 2 if shape.gated_linear_unit else 1
    sharded = shape.hidden_size * width * (inputs + 1)
    if not shape.add_bias_linear:
        return sharded, 0
    return sharded + inputs * width, shape.hidden_size


def dense_layer(shape: ModelShape) -> LayerCounts:
    """Parameters of a layer with an ordinary MLP."""
    attention, replicated = _attention(shape)
    mlp, mlp_replicated = _mlp(shape, shape.ffn_hidden_size)
    norms = 2 * norm_parameters(shape, shape.hidden_size)
    return LayerCounts(attention, mlp, 0, replicated + mlp_replicated + norms)


def expert_layer(shape: ModelShape) -> LayerCounts:
    """Parameters of a mixture-of-experts layer; equals the dense one without experts."""
    if not shape.num_experts:
        return dense_layer(shape)
    attention, replicated = _attention(shape)
    expert, expert_replicated = _mlp(shape, shape.moe_ffn_hidden_size or shape.ffn_hidden_size)
    experts = shape.num_experts * (expert + expert_replicated)
    shared = 0
    if shape.moe_shared_expert_intermediate_size:
        shared, shared_replicated = _mlp(shape, shape.moe_shared_expert_intermediate_size)
        replicated += shared_replicated
    router = shape.hidden_size * shape.num_experts
    norms = 2 * norm_parameters(shape, shape.hidden_size)
    return LayerCounts(attention, shared, experts, replicated + router + norms)


def expert_layer_count(shape: ModelShape) -> int:
    """How many layers are mixtures of experts (``moe_layer_freq`` after the first dense ones)."""
    if not shape.num_experts:
        return 0
    rest = shape.num_layers - shape.moe_first_dense_layers
    return -(-rest // shape.moe_layer_freq)


def embedding_parameters(shape: ModelShape, vocab_size: int | None = None) -> int:
    """Input embedding (and learned positions), without the output head."""
    vocab = vocab_size or shape.vocab_size
    count = vocab * shape.hidden_size
    if shape.position_embedding_type == "learned_absolute":
        count += shape.max_position_embeddings * shape.hidden_size
    return count


def total_parameters(shape: ModelShape) -> int:
    """All parameters, without vocabulary padding: compare with published totals."""
    sparse = expert_layer_count(shape)
    layers = (shape.num_layers - sparse) * dense_layer(shape).total
    layers += sparse * expert_layer(shape).total
    head = 0 if shape.tie_embeddings else shape.vocab_size * shape.hidden_size
    return layers + embedding_parameters(shape) + head + norm_parameters(shape, shape.hidden_size)


def active_parameters(shape: ModelShape) -> int:
    """Parameters that one token meets: of the experts only the routed ones."""
    if not shape.num_experts:
        return total_parameters(shape)
    per_layer = expert_layer(shape).experts
    idle = per_layer * (shape.num_experts - shape.moe_router_topk) // shape.num_experts
    return total_parameters(shape) - expert_layer_count(shape) * idle


def flops_per_token(shape: ModelShape, seq_length: int, causal: bool = False) -> float:
    """Model FLOPs of one trained token, forward and backward, without recomputation.

    6 per active matmul parameter (the head counts, the embedding look-up does not) plus
    attention scores and values, 12 * layers * heads * head_dim * seq; half of that term when
    ``causal`` work is counted (Narayanan et al. 2021, PaLM appendix B).
    """
    lookup = embedding_parameters(shape) if not shape.tie_embeddings else 0
    width = shape.num_attention_heads * shape.head_dim
    if shape.kv_lora_rank is not None:
        nope = shape.qk_head_dim or shape.head_dim
        value = shape.v_head_dim or nope
        width = shape.num_attention_heads * (nope + (shape.qk_pos_emb_head_dim or 0) + value) // 2
    attention = 12.0 * shape.num_layers * width * seq_length
    return 6.0 * (active_parameters(shape) - lookup) + attention * (0.5 if causal else 1.0)
