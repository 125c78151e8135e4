"""Our rules against Megatron-LM's own parser, where a checkout of it is at hand.

Set MEGATRON_LM_DIR to a checkout (core_v0.12 or later); its code is never part of ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKOUT = os.environ.get("MEGATRON_LM_DIR", "")
SPACES = ("llama70b_tp_pp", *sorted(map(str, Path(__file__).parent.glob("megatron_*.yaml"))))


@pytest.mark.slow
@pytest.mark.skipif(not CHECKOUT, reason="MEGATRON_LM_DIR names no checkout of Megatron-LM")
@pytest.mark.parametrize("space", SPACES)
def test_megatron_refuses_nothing_that_is_legal_here(space: str):
    pytest.importorskip("torch")
    argv = [sys.executable, str(ROOT / "scripts" / "check_megatron_args.py")]
    argv += ["--megatron", CHECKOUT, "--space", space, "--limit", "200", "--sample", "5"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 of" in done.stdout and ", 0 refused" in done.stdout
    assert "refused | megatron" in done.stdout
