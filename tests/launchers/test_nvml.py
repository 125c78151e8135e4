"""Reading GPUs through a library that behaves like NVIDIA's, and deciding on what was read."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from pathlib import Path

import pytest

from autotune.launchers import nvml
from autotune.launchers._records import gpu_troubles
from autotune.launchers.nvml import Gpu, Holder, Sampler, wait_released
from tests.engines import fake_nvml
from tests.launchers.gangs import actor_job, need, wait_until


@pytest.fixture
def fake_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for libnvidia-ml.so.1; the file that holds its GPU's state."""
    if fake_nvml.missing():
        need(str(fake_nvml.missing()))
    fake = fake_nvml.built(tmp_path)
    for name, value in fake.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(nvml, "_opened", [])
    return fake.state


def test_no_library_means_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTUNE_NVML_LIBRARY", "libnvidia-ml-that-is-not-here.so.1")
    monkeypatch.setattr(nvml, "_opened", [])
    assert nvml.read_gpus() == []
    assert wait_released([], 5.0) == []


def test_a_gpus_picture(fake_library: Path) -> None:
    fake_library.write_text(f"2048 77 1024 {0x08 | 0x40} 3")
    (gpu,) = nvml.read_gpus()
    assert (gpu.uuid, gpu.name) == ("GPU-fake-0", "Fake H200")
    assert (gpu.total_gib, gpu.used_gib) == (141.0, 2.0)
    assert gpu.holders == (Holder(77, 1.0),)
    assert (gpu.utilization, gpu.sm_clock_mhz, gpu.ecc_uncorrected) == (0.75, 1980, 3)
    assert gpu.throttle == ("hw_slowdown", "hw_thermal_slowdown")
    assert gpu.temperature_c is None and gpu.max_sm_clock_mhz is None  # the fake lacks them


def test_the_supervisor_samples_the_peak_of_its_own_processes(
    fake_library: Path, make_gangs
) -> None:
    names = ["AUTOTUNE_NVML_LIBRARY", "FAKE_NVML_STATE"]
    gangs = make_gangs("local", {"pass_env": names})
    handle = gangs.start(actor_job("say=up", "sleep=60", gpus_per_node=1))
    trial_dir = Path(handle["trial_dir"])
    wait_until((trial_dir / "supervisor.0.json").exists)
    rank = wait_until(lambda: [s for s in gangs.launcher.survivors(handle) if "actor.py" in s])[0]
    pid = int(rank.split()[0])
    fake_library.write_text(f"90000 {pid} 5120 0 0")
    time.sleep(2.5 * nvml.SAMPLE_PERIOD_S)
    fake_library.write_text("90000 1 90000 0 0")
    gangs.launcher.cancel(handle, 1.0)
    status = gangs.finish(handle)
    assert status.peak_memory_gib == 5.0


def gpu_with(used_gib: float, *holders: Holder) -> Gpu:
    """A GPU that holds so much."""
    return Gpu(index=0, uuid="GPU-a", total_gib=80.0, used_gib=used_gib, holders=holders)


def test_memory_of_strangers_is_not_ours() -> None:
    readings = [
        [gpu_with(40.0, Holder(1, 40.0))],
        [gpu_with(47.0, Holder(1, 40.0), Holder(os.getpid(), 7.0))],
        [gpu_with(45.0, Holder(1, 40.0), Holder(os.getpid(), 5.0))],
    ]
    sampler = Sampler(os.getpid(), lambda: readings.pop(0))
    for _ in range(3):
        sampler.sample()
    (told,) = sampler.record()
    assert (told["peak_gib"], told["attributed"], told["samples"]) == (7.0, True, 3)
    assert told["strangers"] == [1]


def test_without_names_the_growth_of_the_gpu_counts() -> None:
    readings = [[gpu_with(40.0)], [gpu_with(52.0)], [gpu_with(41.0)]]
    sampler = Sampler(os.getpid(), lambda: readings.pop(0))
    for _ in range(3):
        sampler.sample()
    (told,) = sampler.record()
    assert (told["peak_gib"], told["attributed"]) == (12.0, False)


def test_waits_until_memory_is_released() -> None:
    readings = [[gpu_with(60.0)], [gpu_with(30.0)], [gpu_with(1.2)]]
    before = [gpu_with(1.0)]
    assert wait_released(before, 10.0, lambda: readings.pop(0), period_s=0.01) == []
    assert readings == []


def test_other_gpus_do_not_matter() -> None:
    other = dataclasses.replace(gpu_with(70.0), uuid="GPU-b")
    assert wait_released([gpu_with(1.0)], 0.0, lambda: [gpu_with(1.0), other]) == []


def test_troubles_of_a_gpu_are_named() -> None:
    told = {"index": 3, "strangers": [77], "throttled_share": 0.5}
    told |= {"before": {"ecc_uncorrected": 1}, "after": {"ecc_uncorrected": 4}}
    told["throttle"] = ["sw_power_cap", "hw_thermal_slowdown"]
    assert gpu_troubles(told) == [
        "had 3 uncorrectable ECC errors",
        "was throttled (hw_thermal_slowdown)",
        "was shared with pids [77]",
    ]
    at_its_limit = {"index": 0, "throttle": ["sw_power_cap"], "strangers": []}
    assert gpu_troubles(at_its_limit) == []
    once = {**told, "strangers": [], "before": {}, "throttled_share": 0.01}
    assert gpu_troubles(once) == []


def test_pictures_before_and_after_are_kept() -> None:
    cool = dataclasses.replace(gpu_with(1.0, Holder(1, 1.0)), sm_clock_mhz=1980)
    hot = dataclasses.replace(cool, sm_clock_mhz=900, throttle=("hw_slowdown",), used_gib=9.0)
    readings = [[cool], [hot], [hot]]
    sampler = Sampler(os.getpid(), lambda: readings.pop(0), visible=("GPU-a",))
    for _ in range(3):
        sampler.sample()
    (told,) = sampler.record()
    assert (told["before"]["sm_clock_mhz"], told["after"]["sm_clock_mhz"]) == (1980, 900)
    assert told["before"]["pids"] == [1] and told["after"]["throttle"] == ["hw_slowdown"]
    assert told["strangers"] == [1], "it was there before us and stayed"
    assert told["throttled_share"] == pytest.approx(2 / 3)


def test_a_gpu_that_was_given_to_another_gang_is_not_judged() -> None:
    mine, other = gpu_with(1.0), dataclasses.replace(gpu_with(50.0), index=1, uuid="GPU-b")
    grown = dataclasses.replace(other, used_gib=70.0)
    readings = [[mine, other], [mine, grown]]
    sampler = Sampler(os.getpid(), lambda: readings.pop(0), visible=("0",))
    sampler.sample()
    sampler.sample()
    assert [told["uuid"] for told in sampler.record()] == ["GPU-a"]


def test_ranks_of_one_gang_are_no_strangers_to_each_other() -> None:
    env = {"AUTOTUNE_TOKEN": "at-same"}
    with subprocess.Popen(["sleep", "60"], env=env) as other:
        both = [gpu_with(9.0, Holder(other.pid, 4.0), Holder(os.getpid(), 5.0))]
        sampler = Sampler(os.getpid(), lambda: both, token="at-same")
        sampler.sample()
        sampler.sample()
        (told,) = sampler.record()
        other.kill()
    assert told["strangers"] == []
