"""How long enumeration takes: a million raw points with late rules, a million legal configs.

    python scripts/bench/legal_set.py [--json FILE]

The bar is a million raw points in about a second and a million legal configs workable in memory.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autotune.space import LegalSet, build_legal_set, parse_space

NAMES = tuple(f"p{index}" for index in range(6))
# Every rule names the last parameter too, so that none of them can prune early.
LATE_RULES = (
    "p0 * p1 + p5 > 12",
    "p2 % p5 == 0 or p3 != p4",
    "not (p1 == 3 and p4 > p5)",
    "max(p0, p5) < 10 or p2 in [1, 2, 5, 10]",
)


def space_text(rules: tuple[str, ...]) -> str:
    """Six parameters of ten values each: 10**6 raw points."""
    parameters = {name: {"range": [1, 10]} for name in NAMES}
    data = {"name": "million", "framework": "command", "parameters": parameters}
    return json.dumps(data | {"constraints": list(rules)})


def timed(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median seconds over `repeats` calls, and the last result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def measure(rules: tuple[str, ...]) -> dict[str, Any]:
    """Times and sizes of one space."""
    text = space_text(rules)
    build_s, legal = timed(lambda: build_legal_set(parse_space(text)), 3)
    columns_s, _ = timed(legal.columns, 3)
    find_us, config_us = single_config_us(legal)
    return {
        "raw_points": legal.raw_points,
        "legal": len(legal),
        "excluded": sum(count for _, count in legal.exclusions),
        "load_and_enumerate_s": round(build_s, 3),
        "columns_s": round(columns_s, 3),
        "find_us": round(find_us, 1),
        "config_us": round(config_us, 1),
        "codes_mib": round(legal.codes.nbytes / 2**20, 1),
    }


def single_config_us(legal: LegalSet) -> tuple[float, float]:
    """Mean microseconds of `find` and of `config` over 1,000 random configs."""
    indices = random.Random(0).sample(range(len(legal)), 1000)
    config_s, configs = timed(lambda: [legal.config(index) for index in indices], 1)
    find_s, found = timed(lambda: [legal.find(config.values) for config in configs], 1)
    assert found == indices
    return find_s * 1e3, config_s * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"late_rules": measure(LATE_RULES), "all_legal": measure(())}
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures["peak_resident_mib"] = round(peak_kib / 1024, 1)
    figures["python"] = sys.version.split()[0]
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
