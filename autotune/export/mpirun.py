"""A start by Open MPI: one process a node, which starts that node's ranks."""

from __future__ import annotations

from collections.abc import Mapping

from autotune.export import Winner, _nodes, _shell


class Mpirun:
    """The exporter ``mpirun``: mpirun.sh, node.sh, run.sh."""

    name = "mpirun"
    describes = "a start by mpirun"
    run = "./mpirun.sh"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """HOSTFILE names the hosts of several nodes; the first must be the one it is run on."""
        nodes = winner.job.nodes
        lines = [
            'MASTER_ADDR="${MASTER_ADDR:-$(hostname -f)}"',
            "export MASTER_ADDR",
            'export MASTER_PORT="${MASTER_PORT:-29500}"',
            "hosts=()",
            '[ -z "${HOSTFILE:-}" ] || hosts=(--hostfile "$HOSTFILE")',
            f'exec "${{MPIRUN:-mpirun}}" "${{hosts[@]}}" -np {nodes} --map-by ppr:1:node '
            '-x MASTER_ADDR -x MASTER_PORT "$HERE/node.sh" "$@"',
        ]
        ranks = {"NODE_RANK": "OMPI_COMM_WORLD_RANK", "NNODES": "OMPI_COMM_WORLD_SIZE"}
        return {
            "mpirun.sh": _shell.script(lines),
            "node.sh": _nodes.node_script(ranks),
            "run.sh": _nodes.run_script(winner),
        }


EXPORTER = Mpirun()
