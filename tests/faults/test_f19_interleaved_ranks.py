"""F19: ranks that write in the middle of each other's lines: a file a rank, lines unharmed."""

from __future__ import annotations

import sys
from pathlib import Path

from autotune.logs.tail import TrialLogs
from autotune.trial import Job
from tests.launchers.gangs import opened

PROGRAM = """
import os, sys, time
rank = os.environ["RANK"]
for step in range(40):
    for piece in ("iteration ", str(step), " rank ", rank, "\\n"):
        os.write(1 + step % 2, piece.encode())
        time.sleep(0.0005)
"""


def test_f19_every_rank_has_its_own_lines(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        job = Job((sys.executable, "-S", "-c", PROGRAM), per="rank", gpus_per_node=4)
        _, trial_dir = gangs.run(job)
    seen: dict[int, list[bytes]] = {}
    for line in TrialLogs(trial_dir).drain():
        seen.setdefault(line.rank, []).append(line.text)
    assert seen == {
        rank: [b"iteration %d rank %d" % (step, rank) for step in range(40)] for rank in range(4)
    }
