"""The winner for a program: config, argument vector, environment without secrets, gang shape."""

from __future__ import annotations

import json
from collections.abc import Mapping

from autotune.export import Winner, _shell


class Json:
    """The exporter ``json``: config.json."""

    name = "json"
    describes = "the config and its command as JSON"
    run = "python3 -m json.tool config.json"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """Paths below the export's folder are given as they are now."""
        job = winner.job
        document = {
            "params": dict(winner.config.values),
            "derived": dict(winner.config.derived),
            "argv": list(job.argv),
            "environment": dict(_shell.environment(job)),
            "cwd": job.cwd,
            "started_per": job.per,
            "nodes": job.nodes,
            "gpus_per_node": job.gpus_per_node,
            "files": sorted(job.files),
        }
        return {"config.json": json.dumps(document, indent=1) + "\n"}


EXPORTER = Json()
