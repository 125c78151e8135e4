"""A RayJob of KubeRay: a Ray cluster of the winner's nodes, and the program that starts on each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from autotune.export import Winner, _nodes, _pods

GANG = "start_gang.py"
RAY_VERSION = "2.9.0"
"""What KubeRay is told; the image's own version is the one that runs."""


class RayJob:
    """The exporter ``rayjob``: rayjob.yaml, start_gang.py, run.sh."""

    name = "rayjob"
    describes = "a Ray job on Kubernetes (KubeRay)"
    run = "kubectl apply -f rayjob.yaml"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """The image, which must hold Ray and the program at the same path, is the user's to set.

        On a Ray cluster that runs already, start_gang.py alone does it.
        """
        name = _nodes.job_name(winner)
        job = winner.job
        own = {
            "run.sh": _nodes.run_script(winner),
            GANG: (Path(__file__).parent / "_start_gang.py").read_text(encoding="utf-8"),
        }
        texts = {**job.files, **own}
        manifest = {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": {"name": name},
            "spec": {
                "entrypoint": f"python3 {_pods.MOUNT}/{GANG} {job.nodes} {job.gpus_per_node}",
                "shutdownAfterJobFinishes": True,
                "backoffLimit": 0,
                "rayClusterSpec": _cluster(winner, f"{name}-files", texts),
            },
        }
        documents = [_pods.config_map(f"{name}-files", texts), manifest]
        return {"rayjob.yaml": yaml.safe_dump_all(documents, sort_keys=False), **own}


def _cluster(winner: Winner, files: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """A head that trains nothing, and one worker a node."""
    nodes = winner.job.nodes
    env = [{"name": "PYTHON", "value": "python3"}]
    head = _pods.pod(winner, {"name": "ray-head", "env": env}, files, texts)
    head["spec"]["containers"][0].pop("resources", None)
    worker = {
        "groupName": "nodes",
        "replicas": nodes,
        "minReplicas": nodes,
        "maxReplicas": nodes,
        "rayStartParams": {},
        "template": _pods.pod(winner, {"name": "ray-worker", "env": env}, files, texts),
    }
    start = {"num-cpus": "0", "num-gpus": "0"}
    return {
        "rayVersion": RAY_VERSION,
        "headGroupSpec": {"rayStartParams": start, "template": head},
        "workerGroupSpecs": [worker],
    }


EXPORTER = RayJob()
