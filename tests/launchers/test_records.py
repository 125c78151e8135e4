"""Exit records and handles that were damaged: read as absent, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.launchers import _records
from autotune.trial import GangStatus

GOOD: dict[str, Any] = {
    "version": 1, "token": "t", "index": 0, "host": "n1", "error": None, "failed": True,
    "ranks": [{"rank": 0, "code": 0, "signal": None}, {"rank": 1, "code": None, "signal": 9}],
    "first_failed": 1, "ended_by": None, "leftovers": 0, "survivors": [], "oom_kill": False,
    "started_s": 1.0, "ended_s": 2.0, "gpu_seconds": 2.0, "gpus": [{"index": 0, "peak_gib": 3.5}],
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a gang of one part."""
    folder = tmp_path_factory.mktemp("records")
    (folder / "gang.json").write_text(json.dumps({"token": "t", "parts": 1}))
    return folder


def status(trial: Path, text: str) -> GangStatus | None:
    """What is made of an exit record with this text."""
    (trial / "exit.0.json").write_text(text)
    records = _records.read_exits(trial, "t")
    return None if records is None else _records.status_of(records)


def test_a_whole_record(trial: Path) -> None:
    told = status(trial, json.dumps(GOOD))
    assert told is not None
    assert [(e.rank, e.code, e.signal, e.node) for e in told.exits] == [
        (0, 0, None, "n1"),
        (1, None, 9, "n1"),
    ]
    assert told.detail == "n1: rank 1 failed first (signal 9)"
    assert (told.peak_memory_gib, told.gpu_seconds) == (3.5, 2.0)


@pytest.mark.parametrize("cut", range(0, len(json.dumps(GOOD)), 7))
def test_half_a_record_is_none(trial: Path, cut: int) -> None:
    assert status(trial, json.dumps(GOOD)[:cut]) is None


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(GOOD)), JSON)
def test_any_value_in_any_place(trial: Path, name: str, value: Any) -> None:
    status(trial, json.dumps({**GOOD, name: value}))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text(trial: Path, text: str) -> None:
    status(trial, text)
