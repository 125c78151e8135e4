"""F16: a full disk stops the launching with a clear error; the storage stays sound."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controller.conftest import Cli
from tests.faults.conftest import check_invariants


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "autotune-test", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        if os.environ.get("AUTOTUNE_REQUIRE_ALL"):
            pytest.fail(f"cannot mount a small disk: {mounted.stderr.decode()}")
        pytest.skip("cannot mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_f16_full_disk_then_room_again(slow: Cli, small_disk: Path) -> None:
    slow.env["AUTOTUNE_HOME"] = str(small_disk)
    slow("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random", "--trials", "2")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    stopped = slow("resume", "s", "--trials", "6", expect=3)
    assert "resume" in stopped.stderr
    filler.unlink()
    slow("resume", "s", "--trials", "6")
    trials = check_invariants(slow, "s")
    assert [trial["number"] for trial in trials] == list(range(6))
