"""The scripts beside an exported NeMo job: sbatch, and a call of NVIDIA's NeMo launcher."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.errors import BadInput

if TYPE_CHECKING:
    from autotune.space import SearchSpace

_HERE = 'HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"'
SLURM_OPTIONS = ("partition", "account", "qos", "time", "container", "container_mounts")
LAUNCHER_PATHS = ("launcher_scripts_path", "data_dir", "base_results_dir")


def _slurm(space: SearchSpace) -> Mapping[str, Any]:
    given = space.options.get("slurm", {})
    for name in given:
        if name not in SLURM_OPTIONS:
            raise BadInput.unknown("option of options.slurm", name, SLURM_OPTIONS)
    for name, value in given.items():
        if "\n" in str(value):
            raise BadInput(f"options.slurm.{name}: a line break has no place in a script's head")
    return dict(given)


def sbatch_script(space: SearchSpace, arguments: Sequence[str], folder: Path) -> str:
    """A job of one task per GPU; ``arguments`` follow ``python3 -u``, paths below ``folder``
    are said relative to where the job was submitted.
    """
    slurm = _slurm(space)
    head = {
        "job-name": f"nemo-{space.name}",
        "nodes": space.cluster.nodes,
        "ntasks-per-node": space.cluster.gpus_per_node,
        "gpus-per-node": space.cluster.gpus_per_node,
        "exclusive": None,
        **{name: slurm[name] for name in ("partition", "account", "qos", "time") if name in slurm},
    }
    lines = ["#!/usr/bin/env bash"]
    lines += [f"#SBATCH --{k}" if v is None else f"#SBATCH --{k}={v}" for k, v in head.items()]
    lines += ["set -euo pipefail", 'HERE="$SLURM_SUBMIT_DIR"']
    lines += ["export CUDA_DEVICE_MAX_CONNECTIONS=1"]
    srun = ["srun", "--kill-on-bad-exit=1"]
    for option in ("container", "container_mounts"):
        if option in slurm:
            flag = "image" if option == "container" else "mounts"
            srun.append(shlex.quote(f"--container-{flag}={slurm[option]}"))
    words = [_word(argument, folder) for argument in arguments]
    lines.append(" ".join([*srun, "python3", "-u", *words]))
    return "\n".join(lines) + "\n"


def _word(argument: str, folder: Path) -> str:
    if argument.startswith(f"{folder}/"):
        return '"$HERE"/' + shlex.quote(argument[len(str(folder)) + 1 :])
    return shlex.quote(argument)


def launcher_script(space: SearchSpace, config_name: str) -> str:
    """`main.py` of NeMo-Framework-Launcher, which submits the job to Slurm by itself."""
    root = str(
        space.options.get("launcher_scripts_path", "/opt/NeMo-Framework-Launcher/launcher_scripts")
    )
    settings = [f"launcher_scripts_path={root}"]
    settings += [
        f"{name}={space.options[name]}" for name in LAUNCHER_PATHS[1:] if name in space.options
    ]
    settings += [f"peft=llama/{config_name}", "stages=[peft]"]
    settings.append(f"cluster.gpus_per_node={space.cluster.gpus_per_node}")
    settings += [
        f"cluster.{name}={value}"
        for name, value in _slurm(space).items()
        if name in ("partition", "account")
    ]
    words = " ".join(shlex.quote(word) for word in settings)
    call = f'python3 {shlex.quote(root + "/main.py")} --config-dir "$HERE/conf" {words}'
    return "\n".join(["#!/usr/bin/env bash", "set -euo pipefail", _HERE, call]) + "\n"
