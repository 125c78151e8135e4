"""Is the GPU of this machine the one that a space says it will run on?"""

from __future__ import annotations

from collections.abc import Callable

from autotune.costmodel.hardware import hardware_for_gpu
from autotune.launchers.nvml import Gpu, read_gpus
from autotune.space import SearchSpace


def other_gpu(space: SearchSpace, read: Callable[[], list[Gpu]] = read_gpus) -> str | None:
    """What to tell a user whose GPU here is not the space's; None where both agree or none is.

    A GPU that no hardware file describes is another one.
    """
    hardware = space.cluster.hardware
    if hardware is None or hardware.vendor == "cpu":
        return None
    gpus = read()
    if not gpus or not gpus[0].name:
        return None
    name, memory = gpus[0].name, gpus[0].total_gib
    try:
        here = hardware_for_gpu(name, memory).name
    except LookupError:
        here = ""
    if here == hardware.name:
        return None
    remedy = f"--set cluster.gpu={here}" if here else "`autotune doctor --bench` writes its file"
    return f"this machine has {name}, the space says {hardware.name}: {remedy}"
