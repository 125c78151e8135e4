"""What every multi-node export shares: run.sh for one node, started once on each by a scheduler."""

from __future__ import annotations

import re
from collections.abc import Mapping

from autotune.export import Winner, _shell
from autotune.export.bash import EXPORTER as BASH


def run_script(winner: Winner) -> str:
    """The script of one node; on several it takes NODE_RANK and MASTER_ADDR as bash exports do."""
    return BASH.files(winner)["run.sh"]


def node_script(ranks: Mapping[str, str]) -> str:
    """A script that names this node from a scheduler's variables, then is run.sh."""
    lines = [f'export {name}="${{{source}}}"' for name, source in ranks.items()]
    return _shell.script([*lines, 'exec "$HERE/run.sh" "$@"'])


def job_name(winner: Winner) -> str:
    """The space's name as schedulers and Kubernetes take it: a DNS label."""
    name = re.sub(r"[^a-z0-9]+", "-", winner.space.name.lower()).strip("-")
    return f"autotune-{name}"[:50].rstrip("-")
