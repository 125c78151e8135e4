"""The shape of a transformer: what parameter counts, memory and FLOPs follow from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ModelShape(BaseModel):
    """A decoder-only transformer under Megatron's names; sizes in elements."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    num_layers: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    ffn_hidden_size: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_query_groups: int = Field(gt=0, description="key/value heads; equals the heads in MHA")
    kv_channels: int | None = Field(
        default=None, description="size of one head; hidden/heads if unset"
    )
    vocab_size: int = Field(gt=0)
    max_position_embeddings: int = 0
    position_embedding_type: str = Field(default="rope", pattern="^(rope|learned_absolute|none)$")
    gated_linear_unit: bool = True
    tie_embeddings: bool = False
    add_bias_linear: bool = False
    add_qkv_bias: bool = False
    normalization: str = Field(default="RMSNorm", pattern="^(RMSNorm|LayerNorm)$")
    rotary_base: float = 10000.0
    num_experts: int | None = None
    moe_router_topk: int = 1
    moe_ffn_hidden_size: int | None = None
    moe_shared_expert_intermediate_size: int | None = None
    moe_layer_freq: int = 1
    moe_first_dense_layers: int = 0
    # Multi-latent attention (DeepSeek-V2/V3); unset for ordinary attention.
    q_lora_rank: int | None = None
    kv_lora_rank: int | None = None
    qk_head_dim: int | None = None
    qk_pos_emb_head_dim: int | None = None
    v_head_dim: int | None = None

    @property
    def head_dim(self) -> int:
        """Elements in one attention head."""
        return self.kv_channels or self.hidden_size // self.num_attention_heads
