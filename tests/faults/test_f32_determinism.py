"""F32: same seed, one worker: the same sequence of configs twice."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.controller.conftest import Cli
from tests.faults.conftest import check_invariants


@pytest.mark.parametrize("sampler", ["autotune", "tpe"])
def test_f32_the_same_sequence_twice(
    slow: Cli, started: Callable[..., subprocess.Popen[str]], sampler: str
) -> None:
    runs = []
    for name in ("a", "b"):
        run = started("run", "--space", "slow.yaml", "--study", name, "--sampler", sampler,
                      "--seed", "7", "--trials", "5", PYTHONHASHSEED=str(ord(name)))  # fmt: skip
        said, complaint = run.communicate()
        assert run.returncode == 0, said + complaint
        runs.append([trial["params"] for trial in check_invariants(slow, name)])
    assert runs[0] == runs[1]
