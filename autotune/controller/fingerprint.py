"""On what figures were measured: machines by their trials' exit records, software by its versions.

A figure holds on what it was measured on. Reports say what that was; an export made for, or run
on, something else says so.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autotune.launchers.host import machine
from autotune.launchers.nvml import read_gpus
from autotune.study.paths import TrialPaths, read_json

if TYPE_CHECKING:
    from autotune.study.record import Study

PACKAGES = (
    "torch", "deepspeed", "megatron-core", "accelerate", "transformers", "torchtitan",
    "nemo-toolkit", "transformer-engine", "flash-attn", "triton", "nvidia-nccl-cu12",
)  # fmt: skip
PROGRAM = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except Exception:
        pass
print(json.dumps(found))
"""
ASK_S = 30.0

Machine = Mapping[str, Any]
"""One node: system, cpu, cpus, memory_gib, nvidia_driver (where there is one), gpus by name."""


def software(python: str) -> dict[str, str]:
    """Versions in the interpreter of trials, without importing them; empty when it cannot run."""
    try:
        said = subprocess.run(
            [python, "-c", PROGRAM, *PACKAGES],
            capture_output=True, text=True, timeout=ASK_S, check=True,
        ).stdout  # fmt: skip
        found: dict[str, str] = json.loads(said)
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return found


def this_machine() -> Machine:
    """The machine this runs on."""
    return {**machine(), "gpus": dict(Counter(gpu.name for gpu in read_gpus()))}


def machines_of(study: Study, number: int) -> list[Machine]:
    """The nodes a trial ran on, as its supervisors saw them; empty when its files are gone."""
    paths = study.paths.trial(number, study.intent(number).attempt)
    return [found for found in map(_machine, _exit_records(paths)) if found]


def _exit_records(paths: TrialPaths) -> list[dict[str, Any]]:
    records = map(read_json, sorted(paths.folder.glob("exit.*.json")))
    return [record for record in records if record is not None]


def _machine(record: Mapping[str, Any]) -> Machine:
    seen = record.get("machine")
    if not isinstance(seen, dict):
        return {}
    gpus = record.get("gpus")
    names = [gpu.get("name", "") for gpu in gpus] if isinstance(gpus, list) else []
    return {**seen, "gpus": dict(Counter(names))}


def described(found: Machine) -> str:
    """A machine in one line."""
    gpus = ", ".join(f"{count} x {name}" for name, count in dict(found.get("gpus") or {}).items())
    parts = [gpus or "no GPU", f"{found.get('cpus')} CPUs {found.get('cpu') or ''}".strip()]
    parts += [f"{found.get('memory_gib')} GiB", str(found.get("system"))]
    if found.get("nvidia_driver"):
        parts.append(f"NVIDIA driver {found['nvidia_driver']}")
    return "; ".join(parts)


def differences(measured: Sequence[Machine], here: Machine) -> list[str]:
    """In what this machine is not one of those measured; empty when nothing is known of them.

    GPUs are compared by name (a trial sees those it used), memory to a tenth.
    """
    if not measured:
        return []
    return min((_unlike(there, here) for there in measured), key=len)


def _unlike(there: Machine, here: Machine) -> list[str]:
    found = []
    for key in ("cpu", "cpus", "system", "nvidia_driver"):
        if there.get(key) != here.get(key):
            found.append(
                f"{key}: {there.get(key) or 'none'} measured, {here.get(key) or 'none'} here"
            )
    used, present = set(there.get("gpus") or ()), set(here.get("gpus") or ())
    if not used <= present:
        found.append(
            f"GPUs: {', '.join(sorted(used))} measured, {', '.join(sorted(present)) or 'none'} here"
        )
    memory = [float(side.get("memory_gib") or 0.0) for side in (there, here)]
    if abs(memory[0] - memory[1]) > 0.1 * max(memory):
        found.append(f"memory: {memory[0]:g} GiB measured, {memory[1]:g} GiB here")
    return found


def software_differences(measured: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Packages whose versions are not those measured; empty when either side is not known."""
    if not measured or not here:
        return []
    names = [*measured, *(name for name in here if name not in measured)]
    return [
        f"{name}: {measured.get(name, 'none')} measured, {here.get(name, 'none')} here"
        for name in names
        if measured.get(name) != here.get(name)
    ]
