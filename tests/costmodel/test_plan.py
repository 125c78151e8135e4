"""The table of `autotune plan`."""

from __future__ import annotations

import json

import pytest

from autotune.costmodel import CostModel
from autotune.costmodel.plan import plan
from autotune.errors import BadInput
from autotune.space import build_legal_set, load_space


def test_rows_are_ordered_and_the_count_is_whole() -> None:
    space = load_space("llama8b_tp_pp")
    legal = build_legal_set(space)
    found = plan(space, legal, most=300)
    fitting = [row.step_time_s for row in found.rows if row.fits]
    assert fitting == sorted(fitting)
    assert found.raw_points == found.legal + sum(item.count for item in found.exclusions)
    assert sum(row.baseline for row in found.rows) == 1
    first = found.rows[0]
    assert sum(first.memory_by_part_gib.values()) == pytest.approx(first.memory_gib, abs=0.01)
    assert sum(first.step_time_by_part_s.values()) == pytest.approx(first.step_time_s)
    assert first.step_time_low_s < first.step_time_s < first.step_time_high_s
    assert json.loads(json.dumps(found.as_dict()))["space"] == "llama8b_tp_pp"


def test_configs_predicted_alike_are_shown_once_and_counted() -> None:
    space = load_space("llama70b_tp_pp")
    legal = build_legal_set(space)
    found = plan(space, legal, most=40)
    fastest = [row for row in found.rows if not row.baseline]
    assert [row.rank for row in fastest] == list(range(1, 41))
    assert found.distinct < found.legal / 2
    assert max(row.alike for row in fastest) > 1
    whole = plan(load_space("llama8b_tp_pp"), build_legal_set(load_space("llama8b_tp_pp")), None)
    assert len(whole.rows) == whole.legal
    once = {row.rank: row.alike for row in whole.rows}
    assert sum(once.values()) == whole.legal


def test_a_gpu_without_fp8_gains_nothing_from_an_fp8_head() -> None:
    space = load_space("gpt_torch", ("cluster.gpu=a100_80gb",))
    found = plan(space, build_legal_set(space), most=5)
    assert "fp8" not in {row.values["lm_head_precision"] for row in found.rows}


def test_what_does_not_fit_says_why() -> None:
    space = load_space("llama8b_tp_pp")
    found = plan(space, build_legal_set(space), most=None)
    lacking = [row for row in found.rows if not row.fits]
    assert found.likely_to_fit == len(found.rows) - len(lacking)
    assert lacking, "8B without recompute and sharding cannot fit everywhere"
    assert all("GiB" in row.reason for row in lacking)


def test_a_space_without_hardware_has_no_plan() -> None:
    space = load_space("llama8b_tp_pp")
    bare = space.model_copy(update={"cluster": space.cluster.model_copy(update={"hardware": None})})
    assert CostModel.for_space(bare) is None
    with pytest.raises(BadInput, match="hardware"):
        plan(bare, build_legal_set(space))
