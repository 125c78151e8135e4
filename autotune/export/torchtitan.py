"""torchtitan's TOML, as the trial ran with it, and its start."""

from __future__ import annotations

from collections.abc import Mapping

from autotune.errors import BadInput
from autotune.export import Winner, _nodes


class TorchTitan:
    """The exporter ``torchtitan``: run.sh; the TOML comes with the job."""

    name = "torchtitan"
    describes = "a torchtitan configuration and its start"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """BadInput when the winner is no torchtitan job."""
        if not any(path.endswith(".toml") for path in winner.job.files):
            raise BadInput("this winner is no torchtitan job; --format bash exports any winner")
        return {"run.sh": _nodes.run_script(winner)}


EXPORTER = TorchTitan()
