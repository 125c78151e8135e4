"""F09, the launcher's half: memory that a dead gang still holds is named within a bound."""

from __future__ import annotations

import time

from autotune.launchers.nvml import Gpu, Holder, wait_released


def test_f09_the_wait_is_bounded_and_names_the_holder() -> None:
    free = [Gpu(index=3, uuid="GPU-x", total_gib=141.0, used_gib=0.6)]
    held = [Gpu(3, "GPU-x", "", 141.0, 98.4, (Holder(4242, 97.8),))]
    started = time.monotonic()
    (sentence,) = wait_released(free, 0.3, lambda: held, period_s=0.05)
    assert time.monotonic() - started >= 0.3
    assert sentence == "GPU 3 (GPU-x) still holds 97.8 GiB; pids: 4242"


def test_f09_a_gpu_that_vanished_is_not_held() -> None:
    free = [Gpu(index=3, uuid="GPU-x", total_gib=141.0, used_gib=0.6)]
    assert wait_released(free, 0.1, lambda: []) == []
