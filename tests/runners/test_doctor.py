"""The sanity check runs on any machine, with PyTorch and without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECK = Path(__file__).resolve().parents[2] / "runners" / "doctor" / "check.py"


def _run(*options: str) -> tuple[int, dict[str, Any]]:
    answer = subprocess.run(
        [sys.executable, *options, str(CHECK), "--quick"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    report: dict[str, Any] = json.loads(answer.stdout)
    return answer.returncode, report


def test_with_pytorch_every_device_is_timed() -> None:
    pytest.importorskip("torch")
    code, report = _run()
    assert (code, report["problems"]) == (0, [])
    for device in report["torch"]["devices"]:
        assert device["forward_ms"] > 0
        assert all(rate > 0 for rate in device["matmul_tflops"].values())
    assert report["host"]["cpus"] >= 1 and report["host"]["memory_gib"] > 0
    assert "lo" in report["network"]["interfaces_mbit_s"]


def test_without_pytorch_the_report_still_stands_and_says_so() -> None:
    code, report = _run("-I", "-S")
    assert code == 1
    assert report["torch"]["error"].startswith("PyTorch cannot be imported")
    assert report["host"]["memory_gib"] > 0
