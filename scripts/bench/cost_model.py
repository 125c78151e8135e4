"""How fast the cost model is on one core: prepared once, predicted again for other constants.

    OMP_NUM_THREADS=1 python scripts/bench/cost_model.py [--json FILE]

The bar is 100,000 configs a second. Two sets: the legal set of llama70b_tp_pp, many of whose
configs share their layout, and the same number of layouts of which no two are alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from autotune.controller.setting import framework_rules
from autotune.costmodel import CostModel
from autotune.costmodel.columns import Columns
from autotune.space import build_legal_set, load_space

ROWS = 134_856


def timed(function: Callable[[], Any], repeats: int) -> float:
    """Median process seconds over `repeats` calls."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def unlike_layouts(rows: int) -> Columns:
    """Columns of layouts that all differ: sequence lengths from 1,024 tokens on, by 4."""
    picks = np.arange(rows)
    return {
        "tensor_model_parallel_size": 2 ** (picks % 4),
        "pipeline_model_parallel_size": 2 ** (picks // 4 % 3),
        "micro_batch_size": 2 ** (picks // 12 % 3),
        "seq_length": 1024 + 4 * (picks // 36),
    }


def measure(model: CostModel, columns: Columns, repeats: int) -> dict[str, float]:
    """Seconds and configs a second of preparing, predicting with bands, and re-timing."""
    table = model.prepare(columns)
    rows, other = len(table), model.constants.mean + 0.1
    found = {"configs": float(rows), "distinct_layouts": float(len(table.physics))}
    for name, function in (
        ("prepare", lambda: model.prepare(columns)),
        ("predict_all_parts_with_bands", table.predict),
        ("step_time_again_for_other_constants", lambda: table.step_time(other)),
        ("memory_again_for_other_constants", lambda: table.device_memory(other)),
    ):
        seconds = timed(function, repeats)
        found[f"{name}_s"] = round(seconds, 4)
        found[f"{name}_configs_per_s"] = round(rows / max(seconds, 1e-6))
    return found


def main() -> int:
    """Measure, print and write; exit status 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    space = load_space("llama70b_tp_pp")
    model = CostModel.for_space(space)
    assert model is not None
    legal = build_legal_set(space, framework_rules(space))
    report = {
        "llama70b_tp_pp": measure(model, legal.columns(), options.repeats),
        "no_two_alike": measure(model, unlike_layouts(ROWS), options.repeats),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
