"""A configuration for `accelerate launch`, and the command that uses it."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from autotune.export import Winner, _launched

PRECISION = {"bf16": "bf16", "fp16": "fp16", "fp8": "fp8"}


class Accelerate:
    """The exporter ``accelerate``: accelerate_config.yaml, run.sh.

    Several processes on CPUs are started as MULTI_GPU with a variable that keeps them there: of
    MULTI_CPU on one machine `accelerate launch` starts one.
    """

    name = "accelerate"
    describes = "an accelerate configuration and its start"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """BadInput when the winner is no gang of ranks."""
        job = winner.job
        rest = _launched.program(winner, self.name)
        several = job.world_size > 1
        hardware = winner.space.cluster.hardware
        on_cpu = not job.gpus_per_node or (hardware is not None and hardware.vendor == "cpu")
        precision = winner.config.get("precision") or winner.space.contract.precision
        config = {
            "compute_environment": "LOCAL_MACHINE",
            "distributed_type": "MULTI_GPU" if several else "NO",
            "machine_rank": 0,
            "num_machines": job.nodes,
            "num_processes": job.world_size,
            "mixed_precision": PRECISION.get(str(precision), "no"),
            "use_cpu": on_cpu and not several,
            "rdzv_backend": "static",
            "same_network": True,
            "main_training_function": "main",
        }
        several_on_cpu = ["export ACCELERATE_USE_CPU=true"] if on_cpu and several else []
        start = [
            *several_on_cpu,
            '"${ACCELERATE:-accelerate}" launch --config_file "$HERE/accelerate_config.yaml"',
        ]
        if job.nodes > 1:
            start[-1] += (
                ' --machine_rank "${NODE_RANK:?set NODE_RANK to the number of this node, from 0}"'
                ' --main_process_ip "${MASTER_ADDR:?set MASTER_ADDR to the first node}"'
                ' --main_process_port "${MASTER_PORT:-29500}"'
            )
        return {
            "accelerate_config.yaml": yaml.safe_dump(config, sort_keys=False),
            "run.sh": _launched.launched(winner, start, rest),
        }


EXPORTER = Accelerate()
