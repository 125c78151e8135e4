"""The few numbers that physics leaves open, by name: efficiencies as log-space multipliers.

Each constant multiplies one kind of time or memory; 0 means that the nominal physics holds.
Prior means and widths come from ``fitted.yaml`` by (GPU, framework); what was never fitted
keeps a wide prior, so its predictions carry wide bands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from autotune.costmodel.workload import conventions_for
from autotune.space.cluster import Hardware

Floats = npt.NDArray[np.float64]

TIME_CONSTANTS = (
    "matmul", "attention", "memory_bound", "tensor_parallel", "tensor_parallel_across_nodes",
    "latency", "data_parallel", "data_parallel_latency", "pipeline", "interference", "optimizer",
    "host", "step_overhead", "pace",
)  # fmt: skip
MEMORY_CONSTANTS = ("states", "activations", "temporary", "reserve")
DEVICE_CONSTANTS = ("matmul", "attention")
"""Constants that belong to the chip rather than to the framework."""
PACE = TIME_CONSTANTS.index("pace")
"""How much slower whole steps are than their parts say: a study's own, nominal in what ships."""
NAMES = TIME_CONSTANTS + MEMORY_CONSTANTS

_WIDE = {
    "matmul": 0.2, "attention": 0.3, "memory_bound": 0.3, "tensor_parallel": 0.5,
    "tensor_parallel_across_nodes": 0.7, "latency": 0.7, "data_parallel": 0.6,
    "data_parallel_latency": 0.9, "pipeline": 0.9, "interference": 1.5,
    "optimizer": 0.6, "host": 0.6,
    "step_overhead": 0.9, "pace": 0.02,
    "states": 0.03, "activations": 0.2, "temporary": 0.35, "reserve": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Constants:
    """Means and widths (standard deviations) of all log multipliers, in the order of NAMES.

    ``time_sigma`` and ``memory_sigma`` are what no constant explains: the log-space residual
    of single configs. ``origin`` says where the means came from.
    """

    mean: Floats
    sigma: Floats
    time_sigma: float = 0.1
    memory_sigma: float = 0.1
    origin: str = "nominal physics"

    def __getitem__(self, name: str) -> float:
        """A constant's log multiplier."""
        return float(self.mean[NAMES.index(name)])

    def moved(self, mean: npt.ArrayLike, **changes: Any) -> Constants:
        """The same priors around another mean."""
        return replace(self, mean=np.asarray(mean, dtype=np.float64), **changes)

    def as_dict(self) -> dict[str, dict[str, float]]:
        """JSON-able: name -> {mean, sigma}."""
        return {
            name: {"mean": float(m), "sigma": float(s)}
            for name, m, s in zip(NAMES, self.mean, self.sigma, strict=True)
        }


def nominal() -> Constants:
    """Zero multipliers with wide priors: nothing was ever fitted for this machine."""
    return Constants(np.zeros(len(NAMES)), np.array([_WIDE[name] for name in NAMES]))


@cache
def _shipped() -> Mapping[str, Mapping[str, Any]]:
    text = resources.files("autotune.costmodel").joinpath("fitted.yaml").read_text("utf-8")
    loaded = yaml.safe_load(text) or {}
    return dict(loaded.get("fits", {}))


def constants_from(record: Mapping[str, Any]) -> Constants:
    """Constants from one entry of ``fitted.yaml``: names absent there keep nominal values."""
    base = nominal()
    mean, sigma = base.mean.copy(), base.sigma.copy()
    for name, value in record.get("constants", {}).items():
        at = NAMES.index(name)
        mean[at], sigma[at] = float(value["mean"]), float(value["sigma"])
    return Constants(
        mean, sigma, float(record.get("time_sigma", base.time_sigma)),
        float(record.get("memory_sigma", base.memory_sigma)),
        str(record.get("origin", base.origin)),
    )  # fmt: skip


def fitted_record(
    hardware: Hardware, framework: str, records: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The best known record: fitted for (GPU, framework), else put together.

    Put together: what the framework or its family does (over GPUs, else over all pairs), with
    the efficiencies of the chip (GPUs of the same bf16 rate) where any framework showed them.
    Without any record, an empty one: nominal physics, wide bands.
    """
    known = _shipped() if records is None else records
    exact = known.get(f"{hardware.name}/{framework}")
    if exact is not None:
        return dict(exact)
    family = conventions_for(framework).name
    base = known.get(f"any/{framework}") or known.get(f"any/{family}") or known.get("any/any") or {}
    chip = known.get(f"{hardware.tflops.get('bf16', 0.0):g}/any") or {}
    merged = dict(base)
    merged["constants"] = {**base.get("constants", {}), **chip.get("constants", {})}
    if base or chip:
        merged["origin"] = f"never fitted for {hardware.name}/{framework}: " + "; ".join(
            str(part["origin"]) for part in (base, chip) if part
        )
        merged["time_sigma"], merged["memory_sigma"] = 0.1, 0.1
    return merged


def fitted_constants(hardware: Hardware, framework: str) -> Constants:
    """The prior for a (GPU, framework) from what ships."""
    return constants_from(fitted_record(hardware, framework))
