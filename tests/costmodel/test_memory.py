"""Identities and monotonicity of predicted memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.costmodel.counts import total_parameters
from autotune.costmodel.layout import complete_layout
from autotune.costmodel.memory import MEMORY_PARTS, layer_activation_bytes
from autotune.space.model import ModelShape
from tests.costmodel.jobs import LLAMA_8B, model_of, table_of

GIB = 2.0**30


def parts(table, row: int = 0) -> dict[str, float]:
    return {name: float(v[row]) for name, v in table.predict().memory_parts.items()}


def test_states_of_one_gpu_are_eighteen_bytes_a_parameter() -> None:
    found = parts(table_of(model_of(nodes=1), micro_batch_size=[1]))
    states = found["weights"] + found["gradients"] + found["optimizer"]
    padded = (-128256 % 128) * 2 * 4096
    assert states == pytest.approx(18 * (total_parameters(LLAMA_8B) + padded) / GIB, rel=1e-12)


def test_zero_stages_shard_one_state_after_the_other() -> None:
    table = table_of(model_of(nodes=1), zero_stage=[0, 1, 2, 3], micro_batch_size=[1] * 4)
    memory = table.predict().memory_parts
    for part, stage in (("optimizer", 1), ("gradients", 2), ("weights", 3)):
        whole = memory[part][0]
        expected = [whole if row < stage else whole / 8 for row in range(4)]
        assert memory[part] == pytest.approx(expected, rel=1e-12)


def test_layer_activations_are_korthikantis_formula() -> None:
    """arXiv:2205.05198, equation 1 without the score term: 34 s b h bytes of a GPT layer."""
    gpt = ModelShape(
        num_layers=4, hidden_size=1024, ffn_hidden_size=4096, num_attention_heads=16,
        num_query_groups=16, vocab_size=51200, gated_linear_unit=False, normalization="LayerNorm",
    )  # fmt: skip
    model = model_of(gpt)
    columns = {"micro_batch_size": np.array([2])}
    layout = complete_layout(columns, gpt, model.workload, model.conventions, 16)
    found = layer_activation_bytes(gpt, layout, model.conventions)[0]
    softmax_statistics = 4 * 16 * 2 * 4096
    assert found == 34 * 4096 * 2 * 1024 + softmax_statistics


def test_half_the_micro_batch_halves_the_activations() -> None:
    table = table_of(
        model_of(batch=128), micro_batch_size=[8, 4, 2, 1], tensor_model_parallel_size=[2] * 4
    )
    activations = table.predict().memory_parts["activations"]
    assert activations == pytest.approx(activations[0] / np.array([1, 2, 4, 8]), rel=1e-12)


def test_interleaving_and_depth_hold_what_the_schedule_holds() -> None:
    """1F1B's first stage of p holds p micro batches: all layers' worth, whatever p."""
    even = model_of(nodes=2, batch=256)
    table = table_of(even, pipeline_model_parallel_size=[1, 2, 4, 8], micro_batch_size=[1] * 4)
    layers = table.physics.memory[table.row, 0, MEMORY_PARTS.index("activations")]
    assert layers == pytest.approx(np.full(4, layers[0]), rel=1e-12)


def test_recomputing_by_operator_keeps_attention_and_every_second_product() -> None:
    """Of torchtitan's layer: its input, q, v, attention's output, the first and the last product
    of the MLP; the option 2 instead recomputes every second layer whole."""
    model = model_of(nodes=1, framework="torchtitan")
    table = table_of(
        model,
        recompute_granularity=["selective", "selective", "none", "full"],
        selective_ac_option=["op", "2", None, None],
        micro_batch_size=[1] * 4,
    )
    kept = table.physics.memory[table.row, 0, MEMORY_PARTS.index("activations")]
    widths = 4 * 4096 + 8 * 128 + 14336
    assert kept[0] == pytest.approx(32 * 4096 * 2 * widths / GIB, rel=1e-12)
    checkpoints = 32 * 4096 * 2 * 4096 / GIB
    assert kept[1] == pytest.approx(kept[2] / 2 + checkpoints / 2 + kept[2] / 32, rel=1e-12)
    assert kept[3] < kept[1] < kept[2]


def test_a_pipeline_of_torchtitan_holds_weights_and_gradients_whole() -> None:
    table = table_of(
        model_of(nodes=2, framework="torchtitan"),
        pipeline_model_parallel_size=[2],
        micro_batch_size=[1],
        zero_stage=[3],
    )
    buffers = table.physics.memory[table.row, 0, MEMORY_PARTS.index("communication_buffers")]
    assert buffers[0] > 6 * 0.5 * total_parameters(LLAMA_8B) * (7 / 8) / GIB


shapes = st.builds(
    lambda layers, heads, head, groups, ffn, vocab, gated, tied, experts: ModelShape(
        num_layers=layers,
        hidden_size=heads * head,
        ffn_hidden_size=ffn * heads,
        num_attention_heads=heads,
        num_query_groups=max(heads // groups, 1),
        kv_channels=head,
        vocab_size=vocab,
        gated_linear_unit=gated,
        tie_embeddings=tied,
        num_experts=experts or None,
        moe_router_topk=min(2, experts) or 1,
        moe_ffn_hidden_size=ffn * heads,
    ),
    layers=st.sampled_from([8, 16, 48]),
    heads=st.sampled_from([8, 16, 64]),
    head=st.sampled_from([64, 128]),
    groups=st.sampled_from([1, 2, 8]),
    ffn=st.sampled_from([128, 344]),
    vocab=st.sampled_from([32000, 50257, 128256]),
    gated=st.booleans(),
    tied=st.booleans(),
    experts=st.sampled_from([0, 8]),
)
AXES = {
    "zero_stage": [0, 1, 2, 3],
    "tensor_model_parallel_size": [1, 2, 4, 8],
    "context_parallel_size": [1, 2, 4, 8],
    "micro_batch_size": [8, 4, 2, 1],
}


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    axis=st.sampled_from(sorted(AXES)),
    framework=st.sampled_from(["generic", "megatron", "nanotron", "deepspeed", "torchtitan"]),
    recompute=st.sampled_from(["none", "selective", "full"]),
)
def test_memory_never_grows_when_more_is_sharded(
    shape: ModelShape, axis: str, framework: str, recompute: str
) -> None:
    model = model_of(shape, nodes=2, batch=512, framework=framework)
    columns = {"micro_batch_size": [2] * 4, "recompute_granularity": [recompute] * 4}
    # A fixed number of ranks shares the states, so that the axis alone changes.
    columns["data_parallel_size"] = [8] * 4
    table = table_of(model, **{**columns, axis: AXES[axis]})
    held = table.predict().memory_parts
    states = held["weights"] + held["gradients"] + held["optimizer"]
    own = states if axis == "zero_stage" else states + held["activations"]
    assert np.all(np.diff(own) <= 1e-9 * own[:-1])


@settings(max_examples=40, deadline=None)
@given(shape=shapes, micro_batch=st.sampled_from([1, 2, 4]))
def test_recomputing_more_never_holds_more(shape: ModelShape, micro_batch: int) -> None:
    model = model_of(shape, batch=512)
    kinds = ["none", "selective", "full"]
    columns = {"recompute_granularity": kinds, "micro_batch_size": [micro_batch] * 3}
    activations = table_of(model, **columns).predict().memory_parts["activations"]
    assert np.all(np.diff(activations) <= 1e-9)


def test_v_shaped_schedules_hold_a_third_a_half_or_all_of_1f1b() -> None:
    """On the first stage of eight; the others hold as much (Qi et al. 2024, arXiv:2405.15362)."""
    table = table_of(
        model_of(batch=256),
        pipeline_model_parallel_size=[8] * 4,
        micro_batch_size=[1] * 4,
        pipeline_schedule=["1f1b", "zbv", "v-half", "v-min"],
    )
    held = table.memory_by_part(table.constants.mean)[:, :, MEMORY_PARTS.index("activations")]
    assert held[:, 0] / held[0, 0] == pytest.approx([1.0, 1.0, 4.5 / 8, (1 + 7 / 3) / 8], rel=1e-6)
    assert held[1, 2] == pytest.approx(held[1, 0])


def test_layers_ahead_grow_with_the_lag_of_the_device() -> None:
    """nanotron's gathered tensors: none is late where launching takes longer than computing."""
    table = table_of(
        model_of(batch=16, nodes=16, framework="nanotron"),
        tensor_model_parallel_size=[8, 8, 8],
        micro_batch_size=[1, 1, 1],
        seq_length=[512, 8192, 32768],
    )
    part = MEMORY_PARTS.index("activations")
    held = table.memory_by_part(table.constants.mean)[:, 0, part]
    each = held / np.array([512, 8192, 32768])
    assert each[0] < each[1] < each[2]
