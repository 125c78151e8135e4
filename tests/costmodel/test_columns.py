"""Columns of any type, defaults, and rows that share their physics."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.costmodel.columns import distinct_rows
from tests.costmodel.jobs import model_of, table_of


def test_what_does_not_matter_costs_no_physics() -> None:
    table = table_of(
        model_of(), micro_batch_size=[1, 1, 2, 2], learning_rate=[1e-4, 2e-4, 1e-4, 2e-4]
    )
    assert len(table) == 4
    assert len(table.physics) == 2
    assert table.predict().step_time_s[0] == table.predict().step_time_s[1]


def test_objects_text_and_none_are_read() -> None:
    mixed = {
        "micro_batch_size": np.array([1, 2], dtype=object),
        "virtual_pipeline_model_parallel_size": np.array([None, 2], dtype=object),
        "recompute_granularity": np.array([None, "full"], dtype=object),
        "sequence_parallel": np.array([None, True], dtype=object),
    }
    table = model_of().prepare(mixed)
    assert table.predict().time_parts["recompute"][0] == 0.0
    assert table.predict().time_parts["recompute"][1] > 0.0


def test_distinct_rows_give_back_every_row() -> None:
    rng = np.random.default_rng(0)
    columns = {
        "micro_batch_size": rng.integers(1, 5, 300),
        "zero_stage": rng.integers(0, 4, 300),
        "precision": rng.choice(["bf16", "fp8"], 300),
        "compile": rng.choice([True, False], 300),
    }
    kept, row = distinct_rows(columns)
    assert len(kept["zero_stage"]) <= 4 * 4 * 2 * 2
    for name, values in columns.items():
        assert np.array_equal(kept[name][row], values)


def test_ragged_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths"):
        distinct_rows({"micro_batch_size": [1, 2], "zero_stage": [1]})


def test_no_rows_are_no_error() -> None:
    table = model_of().prepare({"micro_batch_size": np.zeros(0, dtype=int)})
    assert len(table.predict().step_time_s) == 0
