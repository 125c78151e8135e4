"""Kills controllers, ranks and supervisors at random moments and at every failpoint, and counts.

    python scripts/bench/kill_campaign.py --kills 200 --json analysis/results/kill_campaign.json

Studies of short real processes run until each is finished, resumed after every kill of a
controller. What must come out (``study_invariants.py`` is the judge): no trial lost, none told
twice, no two gangs of one trial at once, no process left, every storage sound. Repeated
GPU-seconds are what the kills cost: time of attempts that had to run again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from study_invariants import PROOF, attempts_of, examine, spans

from autotune.controller.failpoints import NAMES
from autotune.launchers.host import marked

TRAINER = (
    PROOF
    + """
import sys
for _ in range(6):
    time.sleep(0.05)
    alive()
    print("tokens/s:", 1000 * int(sys.argv[1]) + int(sys.argv[2]), flush=True)
"""
)
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
    two_gangs_at_once: int = 0
    orphans: int = 0
    storage_ok: bool = True
    repeated_gpu_seconds: float = 0.0
    all_gpu_seconds: float = 0.0


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
        dry = [sys.executable, "-m", "autotune", "run", "--space", "space.yaml", "--dry-run"]
        begun = time.monotonic()
        subprocess.run(dry, cwd=job, check=True, capture_output=True)
        start_s = time.monotonic() - begun
        while counts.kills < wanted.kills:
            one_study(job, f"s{counts.studies}", draw, counts, wanted.kills, start_s)
            text = json.dumps(asdict(counts), indent=1)
            if wanted.json:  # after each study, so that a campaign cut short has its counts
                wanted.json.write_text(text + "\n")
    print(text)
    bad = counts.trials_lost, counts.told_twice, counts.two_gangs_at_once, counts.orphans
    sys.exit(1 if any(bad) or not counts.storage_ok else 0)


def one_study(
    job: Path, name: str, draw: random.Random, counts: Counts, limit: int, start_s: float
) -> None:
    """Run one study to its end through up to eight kills, then check it.

    ``start_s``: how long a controller takes to start on this machine, as loaded as it is.
    """
    env = {**os.environ, "AUTOTUNE_HOME": str(job / "home")}
    folder = job / "home" / "studies" / name
    words = ["run", "--space", "space.yaml", "--study", name, "--sampler", "random"]
    for _ in range(8):
        if counts.kills >= limit:
            break
        if (folder / "study.json").exists():
            words = ["resume", name]
        if not strike(words, job, folder, env, draw, counts, start_s):
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
    start_s: float,
) -> bool:
    """Start a controller and kill something of it; False when it ended by itself."""
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
        controller.wait(timeout=120 if extra else draw.uniform(0.5 * start_s, start_s + 4.0))
    except subprocess.TimeoutExpired:
        return hit(target, controller, folder, draw, counts)
    killed = controller.returncode == -signal.SIGKILL
    if killed:
        counts.kills += 1
        counts.failpoint_kills += 1
    return killed


def hit(
    target: str,
    controller: subprocess.Popen[bytes],
    folder: Path,
    draw: random.Random,
    counts: Counts,
) -> bool:
    """Kill the controller, or something of a gang and half the time the controller soon after.

    Whether the controller was killed: one that goes on ends the study by itself.
    """
    if target in ("rank", "supervisor"):
        bound = time.monotonic() + 3.0
        while not hit_gang(target, folder, counts) and time.monotonic() < bound:
            time.sleep(draw.uniform(0.0, 0.2))
        if draw.random() < 0.5:
            controller.wait(timeout=120)
            return False
        time.sleep(draw.uniform(0.0, 0.5))
    if controller.poll() is None:
        controller.kill()
        counts.kills += 1
        counts.controller_kills += 1
    return controller.wait() == -signal.SIGKILL


def hit_gang(target: str, folder: Path, counts: Counts) -> bool:
    """Kill one rank or one supervisor of a gang that runs now; whether there was one."""
    for path in folder.glob("trials/*/gang.json"):
        token = json.loads(path.read_text())["token"]
        mark = f"AUTOTUNE_PART={token}:0" if target == "rank" else f"AUTOTUNE_SUPERVISOR={token}"
        for pid, _ in marked(mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            counts.kills += 1
            counts.rank_kills += target == "rank"
            counts.supervisor_kills += target == "supervisor"
            return True
    return False


def check(folder: Path, counts: Counts) -> None:
    """Count what was lost, told twice or left behind in one finished study."""
    found = examine(folder)
    for sentence in found.wrong:
        print(f"{folder.name}: {sentence}", file=sys.stderr)
    counts.studies += 1
    counts.trials += len(found.records)
    told = {record.config_hash for record in found.records if record.finished}
    counts.trials_lost += TRIALS - len(told) + len(found.lost)
    counts.told_twice += len(found.told_twice)
    counts.two_gangs_at_once += len(found.at_once)
    counts.orphans += len(found.left)
    counts.storage_ok = counts.storage_ok and found.storage is None
    for attempts in attempts_of(folder).values():
        seconds = [sum(last - first for first, last in spans(path)) for path in attempts]
        counts.repeated_gpu_seconds += sum(seconds[:-1])
        counts.all_gpu_seconds += sum(seconds)


if __name__ == "__main__":
    main()
