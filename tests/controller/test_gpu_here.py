"""A GPU that is not the space's is told, with what to do."""

from __future__ import annotations

import pytest

from autotune.controller.gpu_here import other_gpu
from autotune.launchers.nvml import Gpu
from autotune.space import load_space


@pytest.mark.parametrize(
    ("name", "gib", "said"),
    [
        ("NVIDIA A100-SXM4-80GB", 80.0, None),
        ("NVIDIA A100-SXM4-40GB", 40.0, "cluster.gpu=a100_40gb"),
        ("NVIDIA H100 80GB HBM3", 79.6, "cluster.gpu=h100_80gb"),
        ("NVIDIA GeForce RTX 9999", 48.0, "doctor --bench"),
    ],
)
def test_another_gpu_is_told(name: str, gib: float, said: str | None) -> None:
    space = load_space("gpt_torch", ("cluster.gpu=a100_80gb",))
    found = other_gpu(space, lambda: [Gpu(0, "GPU-0", name=name, total_gib=gib)])
    assert (found is None) if said is None else (found is not None and said in found)


def test_a_machine_without_a_gpu_says_nothing() -> None:
    assert other_gpu(load_space("gpt_torch", ("cluster.gpu=a100_80gb",)), list) is None
