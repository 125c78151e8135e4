"""NeMo's configuration as files, and as overrides for a command line of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from autotune.errors import BadInput
from autotune.export import Winner, _nodes


class Nemo:
    """The exporter ``nemo``: overrides.txt (key=value a line), run.sh; the YAML is the job's."""

    name = "nemo"
    describes = "a NeMo configuration, its overrides and its start"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """BadInput when the winner is no NeMo job."""
        named = sorted(path for path in winner.job.files if path.endswith((".yaml", ".yml")))
        if "nemo" not in winner.space.frameworks or not named:
            raise BadInput("this winner is no NeMo job; --format bash exports any winner")
        rows = list(_flat(yaml.safe_load(winner.job.files[named[0]])))
        return {"overrides.txt": "\n".join(rows) + "\n", "run.sh": _nodes.run_script(winner)}


def _flat(tree: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield f"{prefix}={json.dumps(tree)}"


EXPORTER = Nemo()
