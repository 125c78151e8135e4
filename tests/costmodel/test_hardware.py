"""Hardware files: complete, sourced, found by what tables and drivers call a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.content import find_content, list_content
from autotune.costmodel.hardware import hardware_for_gpu, hardware_from_bench, load_hardware
from autotune.errors import BadInput

NAMES = sorted(path.stem for path in list_content("search_spaces", "hardware/*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_complete_and_says_its_sources(name: str) -> None:
    hardware = load_hardware(name)
    assert hardware.name == name
    for figure in ("tflops", "memory_gb_per_s", "memory_gib", "intra_node", "inter_node"):
        assert hardware.sources.get(figure), f"{name}: no source for {figure}"
    assert hardware.tflops["bf16"] > 0


def test_the_machines_of_the_brief_ship() -> None:
    wanted = {"v100_16gb", "v100_32gb", "a100_40gb", "a100_80gb", "h100_80gb", "h200_141gb",
              "b200", "mi300x", "l40s", "cpu_host"}  # fmt: skip
    assert wanted <= set(NAMES)


@pytest.mark.parametrize(
    ("label", "memory", "name"),
    [
        ("A100-SXM", 80, "a100_80gb"),
        ("A100", 40, "a100_40gb"),
        ("H100", 80, "h100_80gb"),
        ("H100-HBM2e", 96, "h100_96gb"),
        ("GH-96", 96, "gh200_96gb"),
        ("GB200", 186, "gb200"),
        ("B200", 180, "b200"),
        ("V100", 16, "v100_16gb"),
        ("MI300X", 192, "mi300x"),
    ],
)
def test_labels_find_their_file(label: str, memory: float, name: str) -> None:
    assert hardware_for_gpu(label, memory).name == name


def test_unknown_labels_and_names_are_refused() -> None:
    with pytest.raises(LookupError, match="Titan"):
        hardware_for_gpu("Titan-RTX")
    with pytest.raises(BadInput, match="h100_80gb"):
        load_hardware("h100_80")


def test_the_measuring_program_gives_a_hardware_record(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    program = find_content("runners", "bench_hardware/bench.py")
    assert program is not None
    done = subprocess.run(
        [sys.executable, str(program), "--seconds", "20"],
        capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    result = json.loads(done.stdout.splitlines()[-1])
    hardware = hardware_from_bench(result, "this_host")
    assert hardware.name == "this_host"
    assert hardware.memory_gb_per_s > 0.1
    assert max(hardware.tflops.values()) > 0.0
    assert "measured" in hardware.sources["tflops"]


def test_a_bench_that_broke_off_is_refused() -> None:
    with pytest.raises(BadInput, match="matmul"):
        hardware_from_bench({"matmul": [], "memory_gib": 1.0}, "x")
