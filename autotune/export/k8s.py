"""A Kubernetes PyTorchJob of Kubeflow's training operator, its files in a ConfigMap beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from autotune.export import Winner, _nodes, _pods

START = f'NODE_RANK="${{RANK:-0}}" exec bash {_pods.MOUNT}/run.sh'


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
        job = {
            "apiVersion": "kubeflow.org/v1",
            "kind": "PyTorchJob",
            "metadata": {"name": name},
            "spec": {"pytorchReplicaSpecs": _replicas(winner, f"{name}-files", texts)},
        }
        documents = [_pods.config_map(f"{name}-files", texts), job]
        manifest = yaml.safe_dump_all(documents, sort_keys=False)
        return {"pytorchjob.yaml": manifest, "run.sh": script}


def _replicas(winner: Winner, files: str, texts: Mapping[str, str]) -> dict[str, Any]:
    container = {
        "name": "pytorch",
        "command": ["bash", "-c", START],
        "env": [{"name": "PYTHON", "value": "python3"}],
    }
    replicas = {"Master": 1, "Worker": winner.job.nodes - 1}
    return {
        role: {
            "replicas": count,
            "restartPolicy": "Never",
            "template": _pods.pod(winner, container, files, texts),
        }
        for role, count in replicas.items()
        if count
    }


EXPORTER = Kubernetes()
