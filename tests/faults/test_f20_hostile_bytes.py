"""F20: ANSI, carriage returns, NUL, invalid UTF-8: kept as bytes, nobody dies or waits."""

from __future__ import annotations

import sys
from pathlib import Path

from autotune.logs.tail import TrialLogs
from autotune.trial import Job
from tests.launchers.gangs import actor_job, opened

HOSTILE = (
    b"\x1b[31mred\x1b[0m\n 10%\r 20%\r\nnul\0inside\n\xff\xfe\xc3\x28 bad\n\tt\x85\xe2\x80\xa8ab"
)


def test_f20_bytes_come_through_as_lines(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        status, trial_dir = gangs.run(actor_job(f"raw={HOSTILE.hex()}"))
    assert status.exits[0].code == 0
    assert [line.text for line in TrialLogs(trial_dir).drain()] == [
        b"\x1b[31mred\x1b[0m",
        b" 10%",
        b" 20%",
        b"nul\0inside",
        b"\xff\xfe\xc3\x28 bad",
        b"\tt\x85\xe2\x80\xa8ab",
    ]


def test_f20_a_rank_that_closes_its_output_runs_on(tmp_path: Path) -> None:
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.3); open('proof', 'w')"
    with opened("local", tmp_path) as gangs:
        status, trial_dir = gangs.run(Job((sys.executable, "-S", "-c", code)))
    assert status.exits[0].code == 0 and (trial_dir / "proof").exists()


def test_f20_a_deleted_log_folder_never_stops_the_trainer(tmp_path: Path) -> None:
    code = (
        "import os, shutil; print('before', flush=True); shutil.rmtree('logs');"
        "[os.write(1, b'z' * 99 + b'\\n') for _ in range(400000)]; open('proof', 'w')"
    )
    with opened("local", tmp_path) as gangs:
        status, trial_dir = gangs.run(Job((sys.executable, "-S", "-c", code)))
    assert status.exits[0].code == 0 and (trial_dir / "proof").exists()
