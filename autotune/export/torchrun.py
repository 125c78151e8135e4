"""A start by torchrun, said plainly: one command a node."""

from __future__ import annotations

from collections.abc import Mapping

from autotune.export import Winner, _launched, _shell


class Torchrun:
    """The exporter ``torchrun``: run.sh."""

    name = "torchrun"
    describes = "a start by torchrun"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """BadInput when the winner is no gang of ranks."""
        job = winner.job
        rest = _launched.program(winner, self.name)
        alone = " --standalone" if job.nodes == 1 else ""
        start = f'"${{TORCHRUN:-torchrun}}" --nproc-per-node={max(1, job.gpus_per_node)}{alone}'
        return {"run.sh": _launched.launched(winner, [*_shell.rendezvous(job), start], rest)}


EXPORTER = Torchrun()
