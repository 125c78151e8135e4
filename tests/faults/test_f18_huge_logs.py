"""F18: a gigabyte of log, or one endless line: bounded memory and disk, head and tail kept."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from autotune.logs.tail import TrialLogs
from tests.launchers.gangs import Gangs, actor_job, opened

MIB = 1024 * 1024


def peak_of(pid: int, peaks: list[int], stop: threading.Event) -> None:
    """Note a process's peak resident memory (KiB) until it is gone."""
    while not stop.wait(0.05):
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        peaks += [int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")]


def run_and_watch(gangs: Gangs, *words: str) -> tuple[Path, int]:
    """Run the actor; its trial's folder and the supervisor's peak memory in KiB."""
    handle = gangs.start(actor_job(*words, time_limit_s=240.0))
    peaks: list[int] = []
    stop = threading.Event()
    watcher = threading.Thread(target=peak_of, args=(handle["pid"], peaks, stop))
    watcher.start()
    status = gangs.finish(handle, 240.0)
    stop.set()
    watcher.join()
    assert status.exits[0].code == 0
    return Path(handle["trial_dir"]), max(peaks)


@pytest.mark.slow
def test_f18_a_gigabyte_of_lines(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        trial_dir, peak_kib = run_and_watch(gangs, "say=head", "flood=1024", "say=tail")
    assert peak_kib < 64 * 1024
    segments = sorted(path.name for path in (trial_dir / "logs").glob("rank0.*"))
    assert len(segments) == 4 and segments[0] == "rank0.000.log"
    assert sum((trial_dir / "logs" / name).stat().st_size for name in segments) <= 4 * 17 * MIB
    logs = TrialLogs(trial_dir)
    first = last = None
    for line in logs.drain():
        first = first or line
        last = line
    assert (first.text, last.text) == (b"head", b"tail")
    assert logs.gaps == {0: 1}


def test_f18_one_endless_line(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        trial_dir, peak_kib = run_and_watch(gangs, "say=head", "endless=96")
    assert peak_kib < 64 * 1024
    lines = list(TrialLogs(trial_dir).drain())
    assert lines[0].text == b"head"
    assert max(len(line.text) for line in lines) <= 64 * 1024
    assert set(lines[-1].text) == {ord("y")}
