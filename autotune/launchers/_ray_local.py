"""The try-out cluster that `autotune cluster up` leaves behind: where it is, and its token."""

from __future__ import annotations

from pathlib import Path

from autotune.launchers import host
from autotune.study.paths import home


def cluster_file() -> Path:
    """Where the try-out cluster's address and processes are written down."""
    return home() / "cluster" / "cluster.json"


def token_file() -> Path:
    """Where its token lies, 0600."""
    return home() / "cluster" / "token"


def local_cluster() -> tuple[str | None, dict[str, str]]:
    """Its address and the environment to reach it; (None, {}) when there is none."""
    told = host.read_object(str(cluster_file()))
    processes = told["processes"] if told else []
    if told is None or not any(host.lives(p["pid"], p["start_time"]) for p in processes):
        return None, {}
    return told["address"], auth_environment()


def auth_environment() -> dict[str, str]:
    """What every process that speaks to the cluster needs."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file())}
