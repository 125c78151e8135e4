"""`autotune profile` names the files that a profiled run left."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.cli.commands.profile import _is_profile
from tests.controller.conftest import Cli, cli

__all__ = ["cli"]


@pytest.mark.parametrize(
    "name", ["trace.rank0.json", "trace.5.json", "h.pt.trace.json", "a.nsys-rep"]
)
def test_a_trace_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    assert _is_profile(path) and not _is_profile(tmp_path / "config.json")


def test_the_traces_of_the_runners_here_are_named_so() -> None:
    runners = Path(__file__).parents[2] / "runners"
    for program in ("sft_data/profiling.py", "torch_trainer/loop.py"):
        assert 'f"trace.{' in (text := (runners / program).read_text()) or 'f"trace.rank{' in text


def test_an_unknown_study_is_said(cli: Cli) -> None:
    assert "nknown study" in cli("profile", "absent", "--with", "torch", expect=2).stderr
