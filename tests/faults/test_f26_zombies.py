"""F26: zombies are reaped: the gang's orphans by its supervisor, the supervisor by its launcher."""

from __future__ import annotations

import os
from pathlib import Path

from autotune.launchers import host
from tests.launchers.gangs import actor_job, log_text, opened, wait_until


def zombies_below(parent: int) -> list[int]:
    """Children of a process that wait to be reaped."""
    stats = {pid: host.process_stat(pid) for pid in host.all_pids()}
    return [pid for pid, stat in stats.items() if stat and stat[1] == parent and stat[0] == "Z"]


def test_f26_orphans_are_reaped_while_the_gang_runs(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job("zombies=30", "say=made", "sleep=60"))
        wait_until(lambda: "made" in log_text(Path(handle["trial_dir"])))
        wait_until(lambda: zombies_below(handle["pid"]) == [])


def test_f26_an_ended_supervisor_is_no_zombie(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        for _ in range(3):
            gangs.run(actor_job("say=x"))
        assert zombies_below(os.getpid()) == []
