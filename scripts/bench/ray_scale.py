"""What 1,000 gangs cost on one Ray head: the controller's CPU, answers a second, memory.

    python scripts/bench/ray_scale.py [--gangs 1000] [--parallel 4] [--bound-s 420]

A cluster of its own on this machine (`autotune cluster`), groups of one CPU node kept and reused,
each gang a program that prints the lines of a twenty-step trial. Gangs run `parallel` at a time,
since a keeper is a process; what is measured is what each costs whoever drives them. Stops at
the bound and says how many it ran. Writes analysis/results/ray_scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

OUT = Path(__file__).parents[2] / "analysis" / "results" / "ray_scale.json"
LINES = "".join(f"step {step} tokens/s: 1000\n" for step in range(20))


def cpu_s(process: psutil.Process) -> float:
    """Processor seconds of a process and of the children it waited for."""
    times = process.cpu_times()
    return float(times.user + times.system)


def rss_mib(processes: list[psutil.Process]) -> float:
    """Resident memory of live processes, in MiB."""
    return sum(process.memory_info().rss for process in processes if process.is_running()) / 2**20


def named(word: str) -> list[psutil.Process]:
    """This cluster's processes whose command starts with or contains a word."""
    mark = os.environ["AUTOTUNE_CLUSTER_MARK"]
    found = []
    for process in psutil.process_iter():
        try:
            if word in " ".join(process.cmdline()) and (
                process.environ().get("AUTOTUNE_CLUSTER") == mark
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def run(gangs: int, parallel: int, bound_s: float, folder: Path) -> dict[str, Any]:
    """Run the gangs; the figures."""
    from autotune.launchers import get_launcher
    from autotune.trial import Job

    launcher: Any = get_launcher("ray", {"gpu_resource": False})
    job = Job(("printf", LINES), time_limit_s=60.0)
    first = launcher.submit(job, folder / "first", uuid.uuid4().hex)
    while launcher.poll(first).state != "exited":
        time.sleep(0.01)
    driver = psutil.Process(launcher._bridge._process.pid)
    own, head = psutil.Process(), named("gcs/gcs_server")
    before = [cpu_s(own), cpu_s(driver), sum(map(cpu_s, head)), rss_mib([driver]), rss_mib(head)]
    began, running, started, ended, polls = time.monotonic(), [], 0, 0, 0
    while ended < gangs and (running or time.monotonic() - began < bound_s):
        late = time.monotonic() - began >= bound_s
        while len(running) < parallel and started < gangs and not late:
            running.append(launcher.submit(job, folder / str(started), uuid.uuid4().hex))
            started += 1
        for handle in list(running):
            status = launcher.poll(handle)
            polls += 1
            if status.state == "exited":
                assert [entry.code for entry in status.exits] == [0], status
                running.remove(handle)
                ended += 1
            assert status.state != "lost", status
        time.sleep(0.01)
    seconds = time.monotonic() - began
    after = [cpu_s(own), cpu_s(driver), sum(map(cpu_s, head)), rss_mib([driver]), rss_mib(head)]
    keepers = named("ray::Keeper")
    return {
        "gangs": ended,
        "parallel": parallel,
        "seconds": round(seconds, 1),
        "gangs_per_s": round(ended / seconds, 2),
        "polls_per_s": round(polls / seconds, 1),
        "controller_cpu_ms_per_gang": round(1000 * (after[0] - before[0]) / ended, 2),
        "driver_cpu_ms_per_gang": round(1000 * (after[1] - before[1]) / ended, 2),
        "cpu_ms_per_poll": round(1000 * (after[0] + after[1] - before[0] - before[1]) / polls, 3),
        "head_cpu_ms_per_gang": round(1000 * (after[2] - before[2]) / ended, 2),
        "driver_mib": [round(before[3]), round(after[3])],
        "head_mib": [round(before[4]), round(after[4])],
        "keeper_mib_each": round(rss_mib(keepers) / max(1, len(keepers))),
        "load_average_at_end": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Bring the cluster up, run, write, take it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gangs", type=int, default=1000)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--bound-s", type=float, default=420.0)
    asked = parser.parse_args()
    from autotune.launchers._ray_local import start_cluster, stop_cluster
    from autotune.launchers.host import machine

    with tempfile.TemporaryDirectory() as folder:
        os.environ["AUTOTUNE_HOME"] = folder
        os.environ.pop("RAY_ADDRESS", None)
        try:
            told = start_cluster(1, 0, asked.parallel)
            os.environ["AUTOTUNE_CLUSTER_MARK"] = told["mark"]
            figures = run(asked.gangs, asked.parallel, asked.bound_s, Path(folder) / "gangs")
        finally:
            stop_cluster()
    OUT.write_text(json.dumps({**figures, "machine": machine()}, indent=1) + "\n")
    print(OUT.read_text())


if __name__ == "__main__":
    main()
