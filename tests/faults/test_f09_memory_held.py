"""F09: memory that a dead gang still holds: a bounded wait, then the node is set aside."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from autotune.controller import Controller, Options, nodes, prepare
from autotune.errors import InfrastructureError
from autotune.launchers.nvml import Gpu, Holder, wait_released
from autotune.study.paths import StudyPaths
from autotune.study.record import Study
from tests.controller.conftest import Cli
from tests.engines import fake_nvml
from tests.faults.conftest import check_invariants
from tests.launchers.gangs import need

HOLDING = """
import os
from pathlib import Path
for step in range(6):
    print("tokens/s: 100", flush=True)
Path(os.environ["FAKE_NVML_STATE"]).write_text("9000 4194000 8000 0 0")
"""
SPACE = """
name: held
framework: command
command: ["python3", "gpu.py", "{batch}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters: {batch: {values: [1, 2]}}
baseline: {batch: 1}
cluster: {nodes: 1, gpus_per_node: 1}
launcher_options: {pass_env: [FAKE_NVML_STATE]}
trial: {min_steps: 3, time_limit_s: 60, warmup_steps: 0, stop_early: false}
budget: {finalists: 0}
"""


def test_f09_nothing_more_is_launched_and_the_config_is_not_blamed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fake_nvml.missing():
        need(str(fake_nvml.missing()))
    for name, value in fake_nvml.built(tmp_path).env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AUTOTUNE_HOME", cli.env["AUTOTUNE_HOME"])
    monkeypatch.chdir(cli.folder)
    monkeypatch.setattr(nodes, "GPU_RELEASE_BOUND_S", 0.3)
    cli.write("gpu.py", HOLDING)
    cli.write("space.yaml", SPACE)
    setting = prepare("space.yaml", (), Options(sampler="random"), simulate=False)
    settings = {"options": setting.options.to_json()}
    study = Study.create(StudyPaths.named("s"), setting.space.to_yaml(), settings)
    study.hold()
    with pytest.raises(InfrastructureError, match=r"still holds 8\.8 GiB; .*set aside"):
        Controller(study, setting).run()
    study.close()
    (trial,) = check_invariants(cli, "s")
    assert trial["outcome"] == "ok", "it was measured before, and that stands"


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
