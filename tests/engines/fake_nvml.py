"""A compiled stand-in for NVIDIA's libnvidia-ml.so.1, whose one GPU's state stands in a file.

The state is ``used_mib pid pid_mib throttle_bits ecc`` (a pid of 0: no process).
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "launchers" / "fake_nvml.c"


@dataclass(frozen=True)
class FakeNvml:
    """The library and its state file."""

    library: Path
    state: Path

    @property
    def env(self) -> dict[str, str]:
        """What makes a process read this library."""
        return {"AUTOTUNE_NVML_LIBRARY": str(self.library), "FAKE_NVML_STATE": str(self.state)}


def missing() -> str | None:
    """Why it cannot be built here; None when it can."""
    return None if shutil.which("gcc") or shutil.which("cc") else "no C compiler here"


def built(folder: Path) -> FakeNvml:
    """The library in a folder, its GPU idle."""
    fake = FakeNvml(folder / "libnvidia-ml.so.1", folder / "state")
    compiler = shutil.which("gcc") or shutil.which("cc") or "cc"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", fake.library, SOURCE], check=True)
    fake.state.write_text("0 0 0 0 0")
    return fake
