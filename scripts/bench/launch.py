"""What launching costs: a no-op from submit to its exit record, and how fast logs are taken in.

    scripts/bench/launch.py [--runs 30] [--flood-mib 512] [--json FILE]

Prints medians in milliseconds beside the start of a bare interpreter, which is most of it, and
the rate at which the supervisor takes a flooding rank's lines, in MiB/s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from autotune.launchers import get_launcher
from autotune.trial import Job

FLOOD = "import os\nline = b'x' * 199 + b'\\n'\nfor _ in range({n}): os.write(1, line * 1000)"


def bare_start_ms(runs: int) -> float:
    """Median time to start and end ``python -I -S -c 'import json'``."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-S", "-c", "import json"], check=True)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def run_job(job: Job) -> tuple[float, float, float]:
    """Seconds for submit, until exited, and for the proof that nothing is left."""
    launcher = get_launcher("local")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        handle = launcher.submit(job, Path(folder), "bench")
        submitted = time.perf_counter()
        while launcher.poll(handle).state == "running":
            time.sleep(0.001)
        ended = time.perf_counter()
        if launcher.survivors(handle):
            raise SystemExit("something is left of an ended gang")
        return submitted - start, ended - start, time.perf_counter() - ended


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--flood-mib", type=int, default=512)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [run_job(Job(("true",), time_limit_s=60.0)) for _ in range(options.runs)]
    submit, total, proof = (1e3 * statistics.median(column) for column in zip(*rows, strict=True))
    code = FLOOD.format(n=options.flood_mib * 1024 * 1024 // 200_000)
    _, seconds, _ = run_job(Job((sys.executable, "-S", "-c", code), time_limit_s=600.0))
    figures = {
        "bare_interpreter_ms": bare_start_ms(options.runs),
        "submit_ms": submit,
        "submit_to_exited_ms": total,
        "survivors_ms": proof,
        "flood_mib_per_s": options.flood_mib / seconds,
    }
    for name, value in figures.items():
        print(f"{name:22} {value:8.1f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
