"""The validity gate knows the hardware: a precision's own peak is no limit, the fastest rate is."""

from __future__ import annotations

import pytest

from autotune.controller import prepare


def test_peak_follows_the_precision_and_the_limit_is_the_fastest_rate() -> None:
    setting = prepare("llama70b_tp_pp")
    config = setting.baseline()
    job = setting.render(config, setting.space.source.parent)  # type: ignore[union-attr]
    bf16 = setting.workload(config, job).peak_flops_per_gpu
    assert bf16 == pytest.approx(989.4e12, rel=0.01)
    assert setting.fastest_tflops() == pytest.approx(1978.9, rel=0.01)


def test_a_cpu_host_has_no_peak_to_judge_by() -> None:
    setting = prepare("gpt_torch", simulate=False)
    if setting.space.cluster.hardware is None or setting.space.cluster.hardware.vendor != "cpu":
        pytest.skip("this machine has a GPU")
    assert setting.fastest_tflops() is None
