"""Hardware files by name, and by what a table or a driver calls a GPU."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import yaml

from autotune.content import find_content, list_content
from autotune.errors import BadInput
from autotune.space.cluster import Hardware


def load_hardware(name: str) -> Hardware:
    """``hardware/NAME.yaml`` of the search spaces; BadInput lists the known names."""
    path = find_content("search_spaces", f"hardware/{name}.yaml")
    if path is None:
        known = [p.stem for p in list_content("search_spaces", "hardware/*.yaml")]
        raise BadInput.unknown("hardware", name, known)
    return Hardware(**yaml.safe_load(path.read_text(encoding="utf-8")))


@cache
def _known() -> dict[str, Hardware]:
    paths = list_content("search_spaces", "hardware/*.yaml")
    return {path.stem: load_hardware(path.stem) for path in paths}


def hardware_for_gpu(label: str, memory_gb: float | None = None) -> Hardware:
    """The hardware file that a GPU label means, such as ``A100-SXM`` with 80 GB.

    The file whose model token the label contains and whose memory is nearest; LookupError
    when no token matches. ``GH-96`` is a GH200.
    """
    text = re.sub(r"[^a-z0-9]", "", label.lower())
    matches = []
    for name, hardware in _known().items():
        token = name.split("_")[0]
        if token in text or (token == "gh200" and text.startswith("gh")):
            matches.append((len(token), name, hardware))
    if not matches or "rtx" in text:
        raise LookupError(f"no hardware file matches GPU {label!r}")
    longest = max(length for length, _, _ in matches)
    best = [(name, hw) for length, name, hw in matches if length == longest]
    wanted = memory_gb or max(hw.memory_gib for _, hw in best)
    return min(best, key=lambda item: abs(item[1].memory_gib - wanted))[1]


def nearest_hardware(memory_gb: float) -> Hardware:
    """The GPU whose memory is nearest, for one that no file describes."""
    gpus = [hardware for hardware in _known().values() if hardware.vendor != "cpu"]
    return min(gpus, key=lambda hardware: abs(hardware.memory_gib - memory_gb))


def hardware_from_bench(
    result: dict[str, Any], name: str, base: Hardware | None = None
) -> Hardware:
    """A hardware record from the JSON that ``runners/bench_hardware/bench.py`` prints.

    Peak rates are the best matmul seen by precision; what one process cannot measure (links
    between nodes) is kept from ``base``. BadInput when the JSON holds no matmul figures.
    """
    rates: dict[str, float] = {}
    for row in result.get("matmul", []):
        rates[row["precision"]] = max(rates.get(row["precision"], 0.0), float(row["tflops"]))
    if not rates:
        raise BadInput("the bench result holds no matmul figures: run bench.py to its end")
    start = base or load_hardware("cpu_host")
    changes: dict[str, Any] = {
        "name": name,
        "vendor": result.get("vendor", start.vendor),
        "memory_gib": float(result["memory_gib"]),
        "memory_gb_per_s": float(result["memory"]["copy_gb_per_s"]),
        "tflops": {key: float(f"{value:.4g}") for key, value in sorted(rates.items())},
        "gpus_per_node": int(result.get("gpus_per_node", 1)),
        "host_memory_gib": float(result.get("host_memory_gib", start.host_memory_gib)),
        "sms": result.get("sms"),
    }
    measured = f"measured by bench_hardware/bench.py on {result.get('device', 'this machine')}"
    sources = dict(start.sources)
    sources.update(dict.fromkeys(("tflops", "memory_gib", "memory_gb_per_s", "sms"), measured))
    links = result.get("collectives") or []
    if links:
        bus = max(float(row["bus_gb_per_s"]) for row in links)
        delay = min(float(row["seconds"]) for row in links) * 1e6
        link = {"name": "measured", "gb_per_s": bus, "latency_us": delay}
        changes["intra_node"] = link
        sources["intra_node"] = measured
    host = result.get("host_link") or {}
    if host:
        rate = float(host["host_to_device_gb_per_s"])
        changes["host_link"] = {**start.host_link.model_dump(), "gb_per_s": rate}
        sources["host_link"] = measured
    return Hardware(**{**start.model_dump(), **changes, "sources": sources})
