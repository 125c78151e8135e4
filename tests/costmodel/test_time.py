"""Identities of predicted step time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autotune.costmodel.constants import NAMES
from autotune.costmodel.hardware import load_hardware
from autotune.costmodel.stages import stage_layers
from autotune.costmodel.table import TIME_PARTS
from autotune.costmodel.timing import DEVICE_WORK
from autotune.space.model import ModelShape
from tests.costmodel.jobs import LLAMA_8B, model_of, table_of

HEADLESS = ModelShape(
    num_layers=32, hidden_size=4096, ffn_hidden_size=14336, num_attention_heads=32,
    num_query_groups=8, vocab_size=1,
)  # fmt: skip


@pytest.mark.parametrize("stages", [2, 4, 8])
@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_bubble_is_p_minus_one_over_v_m(stages: int, chunks: int) -> None:
    """Even stages without a head: bubble over work is (p - 1) / (v m)."""
    model = model_of(HEADLESS, nodes=1, batch=32)
    table = table_of(
        model,
        pipeline_model_parallel_size=[stages],
        virtual_pipeline_model_parallel_size=[chunks],
        micro_batch_size=[4],
    )
    micro_batches = 32 / (4 * (8 / stages))
    parts = table.predict().time_parts
    work = parts["compute"][0] + parts["exposed_tp"][0]
    expected = (stages - 1) / (chunks * micro_batches)
    assert parts["pipeline_bubble"][0] / work == pytest.approx(expected, rel=3e-3)


def test_parts_add_up_and_are_never_negative() -> None:
    table = table_of(
        model_of(batch=256),
        tensor_model_parallel_size=[1, 2, 8, 16, 1],
        pipeline_model_parallel_size=[1, 4, 1, 1, 16],
        micro_batch_size=[1, 2, 4, 8, 1],
        recompute_granularity=["none", "full", "selective", "full", "none"],
    )
    costs = table.predict()
    assert set(costs.time_parts) == set(TIME_PARTS)
    assert sum(costs.time_parts.values()) == pytest.approx(costs.step_time_s)
    assert all(np.all(values >= -1e-12) for values in costs.time_parts.values())
    assert sum(costs.memory_parts.values()) == pytest.approx(costs.memory_gib)


def test_full_recompute_repeats_the_forward_pass() -> None:
    table = table_of(
        model_of(HEADLESS, nodes=1), micro_batch_size=[4, 4], recompute_granularity=["none", "full"]
    )
    parts = table.predict().time_parts
    assert parts["recompute"][0] == 0.0
    assert parts["recompute"][1] == pytest.approx(parts["compute"][1] / 3, rel=0.1)


def test_flash_attention_2_gains_less_from_a_hopper_chip_than_its_vendors_kernel() -> None:
    columns = {"attention_backend": ["flash", "cudnn"], "micro_batch_size": [1, 1]}
    hopper = model_of(nodes=1)
    ampere = replace(hopper, cluster=hopper.cluster.model_copy(update={
        "hardware": load_hardware("a100_80gb")}))  # fmt: skip
    slow, fast = (
        t.physics.steady[t.row, DEVICE_WORK.index("attention")]
        for t in (table_of(ampere, **columns), table_of(hopper, **columns))
    )
    assert slow[0] / fast[0] < 2.5 < slow[1] / fast[1]


def test_tensor_parallel_across_nodes_costs_more_than_inside() -> None:
    table = table_of(
        model_of(batch=256), tensor_model_parallel_size=[8, 16], micro_batch_size=[4, 4]
    )
    exposed = table.predict().time_parts["exposed_tp"]
    assert exposed[1] > 1.5 * exposed[0]


def test_twice_the_efficiency_halves_its_part() -> None:
    table = table_of(model_of(nodes=1), micro_batch_size=[4])
    mean = table.constants.mean.copy()
    mean[NAMES.index("optimizer")] -= np.log(2.0)
    before, after = table.time_by_part(table.constants.mean), table.time_by_part(mean)
    assert after["optimizer"] == pytest.approx(before["optimizer"] / 2)
    assert after["compute"] == pytest.approx(before["compute"])


def test_slopes_are_derivatives() -> None:
    table = table_of(
        model_of(batch=256, framework="nanotron"),
        tensor_model_parallel_size=[1, 2, 8, 16, 1, 2],
        pipeline_model_parallel_size=[1, 4, 1, 1, 16, 8],
        micro_batch_size=[1, 2, 4, 8, 1, 1],
        zero_stage=[0, 1, 3, 1, 0, 1],
    )
    mean = table.constants.mean
    value, slopes = table.step_time_and_slopes(mean)
    for k in range(slopes.shape[1]):
        moved = mean.copy()
        moved[k] += 1e-5
        numeric = (np.log(table.step_time(moved)) - np.log(value)) / 1e-5
        # The overlap window's own dependence on compute is left out: at most a few percent.
        assert slopes[:, k] == pytest.approx(numeric, abs=0.05)


def test_stages_by_cost_relieve_the_head_and_keep_every_layer() -> None:
    wide = LLAMA_8B.model_copy(update={"num_layers": 16, "hidden_size": 2048,
                                       "ffn_hidden_size": 8192, "vocab_size": 131072})  # fmt: skip
    for stages in (2, 4, 8):
        layers = stage_layers(wide, stages, by_cost=True)
        assert sum(layers) == 16
        assert layers[-1] < layers[0]
    assert stage_layers(LLAMA_8B, 4, by_cost=False) == [8, 8, 8, 8]
    assert sum(stage_layers(LLAMA_8B, 5, by_cost=False)) == 32


def test_unknown_machines_have_wider_bands() -> None:
    model = model_of(nodes=1)
    sure = replace(
        model.constants, sigma=model.constants.sigma * 0.1, time_sigma=0.03, memory_sigma=0.03
    )
    table = table_of(model, micro_batch_size=[1, 4])
    wide, narrow = table.predict(), table.predict(sure)
    assert np.all(wide.time_sigma > 2 * narrow.time_sigma)
    low, high = wide.band()
    assert np.all((low < wide.step_time_s) & (wide.step_time_s < high))


def test_a_searched_precision_changes_the_rate_of_matrix_products() -> None:
    """fp32, fp32 on TF32 tensor cores and bf16, each at least half as fast again."""
    table = table_of(
        model_of(nodes=1, precision="fp32"),
        precision=["fp32", "fp32", "bf16"],
        matmul_precision=["highest", "high", "highest"],
        micro_batch_size=[1, 1, 1],
    )
    slow, middle, fast = table.predict().step_time_s
    assert slow > 1.5 * middle > 1.5 * 1.5 * fast


def test_gradient_accumulation_is_paid_per_micro_batch_and_never_when_sharded() -> None:
    """Adding bf16 gradients to an fp32 buffer moves 10 bytes a parameter, whatever the tokens."""
    model = model_of(HEADLESS, nodes=1, batch=512, framework="nanotron")
    table = table_of(model, micro_batch_size=[1, 2, 4, 1], zero_stage=[0, 0, 0, 3])
    one, two, four, sharded = table.physics.steady[table.row, 2]
    each = (two - four) / 16
    assert one - two == pytest.approx(32 * each)
    assert one - sharded == pytest.approx(64 * each)
    parameters = 32 * (4096 * 4096 * 2.5 + 3 * 4096 * 14336)
    assert each == pytest.approx(
        10.0 * parameters / (model.hardware.memory_gb_per_s * 1e9), rel=0.01
    )


def test_a_short_stage_that_its_host_delays_sets_the_pace() -> None:
    """The head's stage has the fewest layers; the others launch more and wait for it no longer."""
    model = model_of(batch=64, framework="nanotron")
    columns = {"tensor_model_parallel_size": [2], "pipeline_model_parallel_size": [8]}
    table = table_of(model, **columns, micro_batch_size=[1], seq_length=[128])
    parts = table.predict().time_parts
    assert parts["host_overhead"][0] > parts["compute"][0]
