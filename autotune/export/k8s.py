"""A Kubernetes PyTorchJob of Kubeflow's training operator, its files in a ConfigMap beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from autotune.export import Winner, _nodes

MOUNT = "/autotune"
START = 'NODE_RANK="${RANK:-0}" exec bash ' + MOUNT + "/run.sh"
IMAGE = "REPLACE/WITH-YOUR-TRAINING-IMAGE:TAG"


class Kubernetes:
    """The exporter ``k8s``: pytorchjob.yaml, run.sh."""

    name = "k8s"
    describes = "a Kubernetes PyTorchJob"
    run = "kubectl apply -f pytorchjob.yaml"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """The image, which must hold the program at the same path, is the user's to set."""
        name = _nodes.job_name(winner)
        script = _nodes.run_script(winner)
        texts = {**winner.job.files, "run.sh": script}
        keys = {path: f"file{at}" for at, path in enumerate(sorted(texts))}
        config_map = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{name}-files"},
            "data": {keys[path]: text for path, text in texts.items()},
        }
        items = [{"key": key, "path": path} for path, key in keys.items()]
        job = {
            "apiVersion": "kubeflow.org/v1",
            "kind": "PyTorchJob",
            "metadata": {"name": name},
            "spec": {"pytorchReplicaSpecs": _replicas(winner, f"{name}-files", items)},
        }
        manifest = yaml.safe_dump_all([config_map, job], sort_keys=False)
        return {"pytorchjob.yaml": manifest, "run.sh": script}


def _replicas(winner: Winner, files: str, items: list[dict[str, str]]) -> dict[str, Any]:
    job = winner.job
    container: dict[str, Any] = {
        "name": "pytorch",
        "image": IMAGE,
        "command": ["bash", "-c", START],
        "env": [{"name": "PYTHON", "value": "python3"}],
        "volumeMounts": [
            {"name": "files", "mountPath": MOUNT},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    if job.gpus_per_node:
        container["resources"] = {"limits": {"nvidia.com/gpu": job.gpus_per_node}}
    volumes: list[dict[str, Any]] = [
        {"name": "files", "configMap": {"name": files, "items": items}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    pod = json.dumps({"spec": {"containers": [container], "volumes": volumes}})
    replicas = {"Master": 1, "Worker": job.nodes - 1}
    return {
        role: {"replicas": count, "restartPolicy": "Never", "template": json.loads(pod)}
        for role, count in replicas.items()
        if count
    }


EXPORTER = Kubernetes()
