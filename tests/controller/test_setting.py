"""How a space is settled for the machine that a search is started on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from autotune.controller import setting
from autotune.errors import BadInput
from autotune.launchers import host
from autotune.launchers._ray_local import cluster_file


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without GPUs, engines and clusters of its own."""
    monkeypatch.setenv("AUTOTUNE_NVML_LIBRARY", str(tmp_path / "none.so"))
    monkeypatch.setenv("AUTOTUNE_HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def gpu_of(launcher: str | None = None, **options: Any) -> str | None:
    """Which hardware the trials of a space are for, with a launcher and its options."""
    asked = setting.Options(launcher=launcher, launcher_options=options)
    return setting.prepare("gpt_torch_ddp", (), asked).space.cluster.gpu


def test_without_a_gpu_an_override_is_judged_by_the_smaller_job() -> None:
    small = setting.prepare("gpt_torch_ddp", ("baseline.micro_batch_size=2",))
    assert (small.space.cluster.gpu, small.baseline()["micro_batch_size"]) == ("cpu_host", 2)
    asked = setting.Options(launcher="slurm")
    with pytest.raises(BadInput, match="micro_batch_size=2 is not on offer"):
        setting.prepare("gpt_torch_ddp", ("baseline.micro_batch_size=2",), asked)


def test_every_launcher_tells_where_there_is_no_gpu() -> None:
    whole, small = "a100_80gb", "cpu_host"
    assert gpu_of("local") == gpu_of("mpi") == gpu_of("mpi", hosts=["localhost:4"]) == small
    assert gpu_of("mpi", hosts=["localhost:4", "node2:4"]) == whole
    assert gpu_of("slurm") == whole
    assert gpu_of("slurm", gres="") == gpu_of("slurm", gres=None) == small  # `gres=` on the line
    assert gpu_of("ray") == whole and gpu_of("ray", gpu_resource=False) == small


def test_a_try_out_cluster_has_the_gpus_of_its_machine(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    here = {"pid": os.getpid(), "start_time": (host.process_stat(os.getpid()) or ("", 0, 0))[2]}
    told = {"address": "127.0.0.2:1", "processes": [here]}
    for real, gpu in ((False, "cpu_host"), (True, "a100_80gb")):
        host.write_whole(str(cluster_file()), {**told, "real_gpus": real})
        assert gpu_of("ray") == gpu
        assert gpu_of("ray", address="head:6379") == "a100_80gb"
