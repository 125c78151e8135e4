"""A start by DeepSpeed's launcher, beside the ds_config.json that the trial ran with."""

from __future__ import annotations

from collections.abc import Mapping

from autotune.errors import BadInput
from autotune.export import Winner, _launched

CONFIG_FILE = "ds_config.json"


class DeepSpeed:
    """The exporter ``deepspeed``: run.sh; ds_config.json comes with the job."""

    name = "deepspeed"
    describes = "a DeepSpeed configuration and its start"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """BadInput when the winner is no DeepSpeed job. HOSTFILE names several nodes' hosts."""
        job = winner.job
        if CONFIG_FILE not in job.files:
            raise BadInput("this winner has no ds_config.json; --format bash exports any winner")
        rest = _launched.program(winner, self.name)
        start = [f'"${{DEEPSPEED:-deepspeed}}" --num_gpus {max(1, job.gpus_per_node)}']
        if job.nodes > 1:
            start = [
                'HOSTFILE="${HOSTFILE:?set HOSTFILE to a file of lines: host slots=GPUS}"',
                f'{start[0]} --num_nodes {job.nodes} --hostfile "$HOSTFILE"',
            ]
        return {"run.sh": _launched.launched(winner, start, rest)}


EXPORTER = DeepSpeed()
