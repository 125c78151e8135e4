"""A real Ray on this machine: two virtual nodes with fake GPUs, its token on."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

TOKEN = "0123456789abcdef0123456789abcdef"
LOOPBACK = "127.0.0.2"  # Ray takes 127.0.0.1 for the address of the network card


def missing() -> str | None:
    """Why no Ray can be started here; None when it can."""
    return None if importlib.util.find_spec("ray") else "not installed: ray (pip install ray[tune])"


@contextmanager
def one_start_at_a_time() -> Iterator[None]:
    """Two heads that start on one host at once take each other's ports."""
    with (Path(tempfile.gettempdir()) / "autotune-tests-ray.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def token_told() -> Iterator[None]:
    """Ray with its token on. A process that used Ray before keeps the mode it began with."""
    told = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_DEDUP_LOGS": "0"}
    told |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "8", "RAY_USAGE_STATS_ENABLED": "0"}
    with mock.patch.dict(os.environ, told):
        from ray._private.authentication_test_utils import reset_auth_token_state

        reset_auth_token_state()
        yield


@contextmanager
def own_ray() -> Iterator[None]:
    """A Ray inside this process, as a Tune program starts one."""
    quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    with token_told():
        import ray

        with one_start_at_a_time():
            ray.init("local", num_cpus=2, **quiet)
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def cluster(nodes: int = 2, gpus: int = 8, **arguments: Any) -> Iterator[Any]:
    """A ``ray.cluster_utils.Cluster`` whose address and token stand in the environment."""
    with token_told():
        from ray.cluster_utils import Cluster

        node = {"num_gpus": gpus, "num_cpus": 16, "object_store_memory": 80 * 1024 * 1024}
        node |= {"include_dashboard": False, "node_ip_address": LOOPBACK, **arguments}
        with one_start_at_a_time():
            started = Cluster(initialize_head=True, head_node_args=node)
        try:
            for _ in range(nodes - 1):
                started.add_node(**node)
            started.wait_for_nodes()
            os.environ["RAY_ADDRESS"] = started.address
            yield started
        finally:
            started.shutdown()


@contextmanager
def started(folder: Path) -> Iterator[dict[str, Any]]:
    """The cluster for as long as it is needed; yields the launcher's options."""
    with cluster() as running:
        yield {"address": running.address}
