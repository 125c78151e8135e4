"""How a space is settled for the machine that a search is started on."""

from __future__ import annotations

import pytest

from autotune.controller import setting
from autotune.errors import BadInput


def test_without_a_gpu_an_override_is_judged_by_the_smaller_job(monkeypatch) -> None:
    monkeypatch.setattr(setting, "read_gpus", list)
    small = setting.prepare("gpt_torch_ddp", ("baseline.micro_batch_size=2",))
    assert (small.space.cluster.gpu, small.baseline()["micro_batch_size"]) == ("cpu_host", 2)
    with pytest.raises(BadInput, match="micro_batch_size=2 is not on offer"):
        setting.prepare(
            "gpt_torch_ddp", ("baseline.micro_batch_size=2",), setting.Options(launcher="mpi")
        )
