"""A Ray cluster to break: a head that runs no trials, and workers that are added and removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controller.conftest import Cli
from tests.engines import ray as engine
from tests.faults.conftest import folder_of
from tests.launchers.gangs import log_text, need, wait_until

RUN = ("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random", "--launcher", "ray")
WORKER = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 1024 * 1024}
WORKER |= {"node_ip_address": engine.LOOPBACK, "include_dashboard": False}


@pytest.fixture
def head(cli: Cli) -> Iterator[Any]:
    """A cluster of a head alone, known to the command line by its environment."""
    if engine.missing():
        need(str(engine.missing()))
    with engine.cluster(nodes=1, gpus=0, num_cpus=0) as cluster:
        know(cli, cluster)
        yield cluster


def know(cli: Cli, cluster: Any) -> None:
    """Have the command line use this cluster."""
    cli.env.update(RAY_ADDRESS=cluster.address, RAY_AUTH_MODE="token")
    cli.env.update(RAY_AUTH_TOKEN=engine.TOKEN, RAY_gcs_rpc_server_reconnect_timeout_s="8")


def attempt_running(cli: Cli, attempt: int) -> Path:
    """The folder of the newest trial once its given attempt has told that it is held up."""

    def found() -> Path | None:
        for path in folder_of(cli, "s").glob("trials/*/gang.json"):
            suffix = path.parent.name.partition(".")[2] or "1"
            if int(suffix) == attempt and log_text(path.parent) and not ended(path.parent):
                return path.parent
        return None

    return wait_until(found, 120.0)


def ended(trial_dir: Path) -> bool:
    """Whether a trial's only part has told its end."""
    return (trial_dir / "exit.0.json").exists() and bool(
        json.loads((trial_dir / "exit.0.json").read_text())
    )
