"""What Kubernetes exports share: all files in a ConfigMap, and the pod that mounts them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from autotune.errors import BadInput
from autotune.export import Winner

MOUNT = "/autotune"
IMAGE = "REPLACE/WITH-YOUR-TRAINING-IMAGE:TAG"
LARGEST = 1 << 20
"""What a ConfigMap may hold, bytes."""

Manifest = dict[str, Any]


def config_map(name: str, texts: Mapping[str, str]) -> Manifest:
    """A ConfigMap of files; their paths, which keys cannot spell, follow in the pod's volume.

    Raises BadInput when the files are more than a ConfigMap holds.
    """
    size = sum(len(text.encode()) for text in texts.values())
    if size > LARGEST:
        largest = max(texts, key=lambda path: len(texts[path]))
        raise BadInput(
            f"export: the winner's files are {size:,} bytes, a ConfigMap holds {LARGEST:,}; "
            f"put the largest, {largest}, into the image or on a volume."
        )
    data = {key: texts[path] for path, key in _keys(texts).items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(winner: Winner, container: Manifest, files: str, texts: Mapping[str, str]) -> Manifest:
    """A pod template: the container with our files, shared memory and its node's GPUs."""
    mounts = [{"name": "files", "mountPath": MOUNT}, {"name": "shm", "mountPath": "/dev/shm"}]
    whole = {**container, "image": IMAGE, "volumeMounts": mounts}
    if winner.job.gpus_per_node:
        whole["resources"] = {"limits": {"nvidia.com/gpu": winner.job.gpus_per_node}}
    items = [{"key": key, "path": path} for path, key in _keys(texts).items()]
    volumes = [
        {"name": "files", "configMap": {"name": files, "items": items}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    return copied({"spec": {"containers": [whole], "volumes": volumes}})


def copied(manifest: Manifest) -> Manifest:
    """A copy without shared parts, which YAML would write as anchors."""
    found: Manifest = json.loads(json.dumps(manifest))
    return found


def _keys(texts: Mapping[str, str]) -> dict[str, str]:
    return {path: f"file{at}" for at, path in enumerate(sorted(texts))}
