"""Overhead of one trial of a program that does nothing: rendered to told, in seconds.

    python scripts/bench/overhead.py [--trials 40]

The bar is 0.15 s on an idle two-core machine; ZenithTune 0.5.0 takes 0.43 s on such a machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPACE = """
name: noop
framework: command
command: ["printf", "tokens/s: {a}{b}\\\\ntokens/s: {a}{b}\\\\ntokens/s: {a}{b}\\\\n"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters:
  a: {range: [1, 20, 1]}
  b: {range: [10, 29, 1]}
baseline: {a: 1, b: 10}
trial: {min_steps: 1, warmup_steps: 0, time_limit_s: 60}
budget: {trials: TRIALS, finalists: 0}
"""


def main() -> None:
    """Two studies of different length; the difference leaves start-up out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    wanted = parser.parse_args()
    figures = []
    for _ in range(wanted.repeats):
        short, long = seconds(5), seconds(5 + wanted.trials)
        figures.append((long - short) / wanted.trials)
    print(json.dumps({"seconds_per_trial": statistics.median(figures), "runs": figures}))


def seconds(trials: int) -> float:
    """Wall time of a whole `autotune run`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "noop.yaml").write_text(SPACE.replace("TRIALS", str(trials)))
        env = {**os.environ, "AUTOTUNE_HOME": f"{folder}/home"}
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "autotune", "run", "--space", "noop.yaml"],
            cwd=folder,
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
