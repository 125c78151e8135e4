"""A Slurm batch script: one task a node, torchrun's rendezvous on the first of them."""

from __future__ import annotations

from collections.abc import Mapping

from autotune.export import Winner, _nodes


class Sbatch:
    """The exporter ``sbatch``: job.sbatch, node.sh, run.sh."""

    name = "sbatch"
    describes = "a Slurm batch job"
    run = "sbatch job.sbatch"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """Slurm copies the batch script away, so it finds its files where it was submitted."""
        job = winner.job
        head = [
            "#!/usr/bin/env bash",
            f"#SBATCH --job-name={_nodes.job_name(winner)}",
            f"#SBATCH --nodes={job.nodes}",
            "#SBATCH --ntasks-per-node=1",
            "#SBATCH --exclusive",
        ]
        if job.gpus_per_node:
            head.append(f"#SBATCH --gpus-per-node={job.gpus_per_node}")
        body = [
            "set -euo pipefail",
            'HERE="${SLURM_SUBMIT_DIR:?submit this file with sbatch, from its own folder}"',
            'MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"',
            "export MASTER_ADDR",
            'export MASTER_PORT="${MASTER_PORT:-29500}"',
            'exec srun --kill-on-bad-exit=1 "$HERE/node.sh" "$@"',
        ]
        ranks = {"NODE_RANK": "SLURM_NODEID", "NNODES": "SLURM_JOB_NUM_NODES"}
        return {
            "job.sbatch": "\n".join([*head, *body]) + "\n",
            "node.sh": _nodes.node_script(ranks),
            "run.sh": _nodes.run_script(winner),
        }


EXPORTER = Sbatch()
