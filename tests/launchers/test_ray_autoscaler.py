"""A gang that no node can hold waits, and Ray's autoscaler brings the nodes it waits for."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotune.launchers import get_launcher
from tests.engines import ray as engine
from tests.launchers.gangs import Gangs, actor_job, log_text, need, wait_until

PORT = 6379  # where Ray's fake provider tells its nodes to look for the head
ADDRESS = re.compile(rf"--address='([^']+:{PORT})'")  # told below "Ray runtime started"
EMPTY_LISTS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray")
FAKE = {
    "cluster_name": "fake",
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 1.0,
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {
            "resources": {"CPU": 2, "GPU": 1},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 2,
        },
    },
    **{f"{name}_commands": [] for name in (*EMPTY_LISTS, "worker_start_ray")},
    **{name: {} for name in ("auth", "docker", "file_mounts")},
    **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
    "file_mounts_sync_continuously": False,
}


@pytest.fixture
def head(tmp_path: Path) -> Iterator[str]:
    """The address of a head without resources, whose autoscaler starts up to two nodes."""
    if engine.missing():
        need(str(engine.missing()))
    (tmp_path / "fake.json").write_text(json.dumps(FAKE))
    scratch = tempfile.mkdtemp(prefix="at-ray-", dir="/tmp")
    argv = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    argv += [f"--port={PORT}", "--include-dashboard=false", "--num-cpus=0", "--num-gpus=0"]
    argv += [f"--autoscaling-config={tmp_path}/fake.json", f"--temp-dir={scratch}"]
    argv += [f"--object-store-memory={80 * 1024 * 1024}"]
    with engine.token_told(), engine.one_start_at_a_time():
        env = {**os.environ, "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
        log = tmp_path / "head.log"
        with log.open("wb") as out:
            ray = subprocess.Popen(argv, env=env, stdout=out, stderr=out, start_new_session=True)
        try:
            wait_until(lambda: ADDRESS.search(log.read_text()) is not None, 120.0)
            yield ADDRESS.findall(log.read_text())[0]
        finally:
            os.killpg(ray.pid, signal.SIGKILL)
            ray.wait()
            shutil.rmtree(scratch, ignore_errors=True)


@pytest.mark.slow
def test_nodes_come_for_a_gang_that_waits(head: str, tmp_path: Path) -> None:
    launcher = get_launcher("ray", {"address": head})
    gangs = Gangs(launcher, tmp_path / "gangs")
    handle = gangs.start(actor_job("say=here", per="node", nodes=2, gpus_per_node=1))
    assert launcher.poll(handle).state == "pending"
    status = gangs.finish(handle, 120.0)
    assert [(end.rank, end.code) for end in status.exits] == [(0, 0), (1, 0)], status
    assert all("here" in log_text(Path(handle["trial_dir"]), rank) for rank in (0, 1))
