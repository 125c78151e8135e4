#!/usr/bin/env python3
"""Checks exported Kubernetes manifests against the operators' own schemas.

    python scripts/check_k8s_manifests.py CRD.yaml MANIFEST.yaml [MANIFEST.yaml ...]

CRD.yaml is a CustomResourceDefinition: `manifests/base/crds/kubeflow.org_pytorchjobs.yaml` of
github.com/kubeflow/training-operator, `ray-operator/config/crd/bases/ray.io_rayjobs.yaml` of
github.com/ray-project/kuberay. Unknown keys are errors, as for `kubectl apply`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml


def strict(schema: Any) -> Any:
    """The schema with keys that it does not name refused, where Kubernetes would drop them."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get(
        "x-kubernetes-preserve-unknown-fields"
    ):
        found.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    return found


def main(crd: Path, manifests: list[Path]) -> int:
    """Print a line for each mistake; 1 when there is one or nothing was checked."""
    import jsonschema

    definition = yaml.safe_load(crd.read_text(encoding="utf-8"))["spec"]
    kind = definition["names"]["kind"]
    versions = {v["name"]: v["schema"]["openAPIV3Schema"] for v in definition["versions"]}
    checked = mistakes = 0
    for path in manifests:
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document["kind"] != kind:
                continue
            schema = versions[document["apiVersion"].rpartition("/")[2]]
            schema["properties"]["metadata"] = {"type": "object"}
            checked += 1
            for error in jsonschema.Draft202012Validator(strict(schema)).iter_errors(document):
                mistakes += 1
                print(f"{path}: {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}")
    print(f"{checked} {kind} checked, {mistakes} mistakes")
    return 1 if mistakes or not checked else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
