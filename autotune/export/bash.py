"""A plain run script: on one node it just runs, on several it is started once on each."""

from __future__ import annotations

from collections.abc import Mapping

from autotune.export import Winner, _shell


class Bash:
    """The exporter ``bash``."""

    name = "bash"
    describes = "a run script"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """run.sh."""
        job = winner.job
        lines = [*_shell.header(job, winner.folder), *_shell.rendezvous(job)]
        lines.append("exec " + _shell.command(_shell.torchrun(job), winner.folder) + ' "$@"')
        return {"run.sh": _shell.script(lines)}


EXPORTER = Bash()
