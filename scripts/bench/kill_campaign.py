"""Kills controllers, ranks and supervisors at random moments and at every failpoint, and counts.

    python scripts/bench/kill_campaign.py --kills 200 --json analysis/results/kill_campaign.json

Studies of short real processes run until each is finished, resumed after every kill. What must
come out: no trial lost, none told twice, no process left, every storage sound. Repeated
GPU-seconds are what the kills cost: time of attempts that had to run again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from autotune.controller.failpoints import NAMES
from autotune.launchers import supervisor

TRAINER = """
import sys, time
for _ in range(6):
    time.sleep(0.05)
    print("tokens/s:", 1000 * int(sys.argv[1]) + int(sys.argv[2]), flush=True)
"""
SPACE = """
name: campaign
framework: command
command: ["python3", "train.py", "{batch}", "{mode}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters:
  batch: {values: [1, 2, 3, 4]}
  mode: {values: [1, 2, 3]}
baseline: {batch: 1, mode: 1}
trial: {min_steps: 3, time_limit_s: 60, stop_early: false}
budget: {trials: 12, finalists: 0}
"""
TRIALS = 12
TARGETS = ("controller", "controller", "failpoint", "rank", "supervisor")


@dataclass
class Counts:
    """What the campaign is judged by."""

    kills: int = 0
    controller_kills: int = 0
    failpoint_kills: int = 0
    rank_kills: int = 0
    supervisor_kills: int = 0
    studies: int = 0
    trials: int = 0
    trials_lost: int = 0
    told_twice: int = 0
    orphans: int = 0
    storage_ok: bool = True
    repeated_gpu_seconds: float = 0.0


def main() -> None:
    """Run the campaign and print or write its counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    counts = Counts()
    draw = random.Random(wanted.seed)
    with tempfile.TemporaryDirectory(prefix="autotune-kills-") as folder:
        job = Path(folder)
        (job / "train.py").write_text(TRAINER)
        (job / "space.yaml").write_text(SPACE)
        while counts.kills < wanted.kills:
            one_study(job, f"s{counts.studies}", draw, counts, wanted.kills)
    text = json.dumps(asdict(counts), indent=1)
    if wanted.json:
        wanted.json.write_text(text + "\n")
    print(text)
    bad = counts.trials_lost or counts.told_twice or counts.orphans or not counts.storage_ok
    sys.exit(1 if bad else 0)


def one_study(job: Path, name: str, draw: random.Random, counts: Counts, limit: int) -> None:
    """Run one study to its end through up to eight kills, then check it."""
    env = {**os.environ, "AUTOTUNE_HOME": str(job / "home")}
    folder = job / "home" / "studies" / name
    words = ["run", "--space", "space.yaml", "--study", name, "--sampler", "random"]
    for _ in range(8):
        if counts.kills >= limit:
            break
        if (folder / "study.json").exists():
            words = ["resume", name]
        if not strike(words, job, folder, env, draw, counts):
            break
    if (folder / "study.json").exists():
        words = ["resume", name]
    finished = subprocess.run(
        [sys.executable, "-m", "autotune", *words], cwd=job, env=env, capture_output=True, text=True
    )
    if finished.returncode not in (0, 1):
        print(finished.stderr, file=sys.stderr)
    check(folder, counts)


def strike(
    words: list[str],
    job: Path,
    folder: Path,
    env: dict[str, str],
    draw: random.Random,
    counts: Counts,
) -> bool:
    """Start a controller and kill something of it; False when it ended before that."""
    target = draw.choice(TARGETS)
    extra = {}
    if target == "failpoint":
        extra = {"AUTOTUNE_FAILPOINT": f"{draw.choice(NAMES)}@{draw.randint(1, 3)}"}
    controller = subprocess.Popen(
        [sys.executable, "-m", "autotune", *words],
        cwd=job,
        env={**env, **extra},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        controller.wait(timeout=120 if extra else draw.uniform(1.0, 4.5))
    except subprocess.TimeoutExpired:
        hit(target, controller, folder, counts)
        return True
    killed = controller.returncode == -signal.SIGKILL
    if killed:
        counts.kills += 1
        counts.failpoint_kills += 1
    return killed


def hit(target: str, controller: subprocess.Popen[bytes], folder: Path, counts: Counts) -> None:
    """Kill the controller, or a process of a gang while the controller goes on for a while."""
    if target in ("rank", "supervisor"):
        bound = time.monotonic() + 3.0
        while not hit_gang(target, folder, counts) and time.monotonic() < bound:
            time.sleep(0.02)
        time.sleep(0.3)
    controller.kill()
    controller.wait()
    counts.kills += 1
    counts.controller_kills += 1


def hit_gang(target: str, folder: Path, counts: Counts) -> bool:
    """Kill one rank or one supervisor of a gang that runs now; whether there was one."""
    for pid, is_rank in gang_processes(folder):
        if is_rank == (target == "rank"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            counts.kills += 1
            counts.rank_kills += target == "rank"
            counts.supervisor_kills += target == "supervisor"
            return True
    return False


def gang_processes(folder: Path) -> list[tuple[int, bool]]:
    """(pid, whether it is a rank) of every living process of the study's gangs."""
    found = []
    for path in folder.glob("trials/*/gang.json"):
        token = json.loads(path.read_text())["token"]
        supervisors = {pid for pid, _ in supervisor.marked(f"AUTOTUNE_SUPERVISOR={token}")}
        carriers = {pid for pid, _ in supervisor.marked(f"AUTOTUNE_TOKEN={token}")}
        found += [(pid, False) for pid in supervisors]
        found += [(pid, True) for pid in carriers - supervisors]
    return found


def check(folder: Path, counts: Counts) -> None:
    """Count what was lost, told twice or left behind in one finished study."""
    deadline = time.monotonic() + 15
    while (left := gang_processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    counts.studies += 1
    counts.orphans += len(left)
    with sqlite3.connect(folder / "study.db") as connection:
        sound = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute(
            "SELECT t.number, count(a.value_json) FROM trials t LEFT JOIN trial_user_attributes a "
            "ON a.trial_id = t.trial_id AND a.key = 'result' GROUP BY t.number"
        ).fetchall()
    connection.close()
    counts.storage_ok = counts.storage_ok and sound
    counts.trials += len(rows)
    counts.told_twice += sum(count > 1 for _, count in rows)
    counts.trials_lost += TRIALS - sum(count == 1 for _, count in rows)
    for path in folder.glob("trials/*/gang.json"):
        if "." in path.parent.name:
            before = path.parent.parent / path.parent.name.split(".")[0]
            counts.repeated_gpu_seconds += attempt_seconds(before)


def attempt_seconds(folder: Path) -> float:
    """How long an attempt that had to be repeated had run, by the stamps of its log lines."""
    stamps = [
        float(line.split("\t")[0])
        for path in sorted(folder.glob("logs/rank0.*.log"))
        for line in path.read_text().splitlines()
    ]
    return max(stamps) - min(stamps) if stamps else 0.0


if __name__ == "__main__":
    main()
