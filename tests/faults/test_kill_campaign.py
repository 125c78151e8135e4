"""The kill campaign at a small size: random kills, and nothing lost, told twice or left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).parents[2] / "scripts" / "bench" / "kill_campaign.py"


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    told = tmp_path / "counts.json"
    argv = [sys.executable, str(CAMPAIGN), "--kills", "6", "--seed", "7", "--json", str(told)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(told.read_text())
    assert counts["kills"] >= 6 and counts["storage_ok"]
    assert (counts["trials_lost"], counts["told_twice"], counts["orphans"]) == (0, 0, 0)
