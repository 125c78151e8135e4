"""What `run --from STUDY` saves: measured grids searched cold, and after another grid's search.

    python analysis/warm_start.py CSV... [--seeds N] [--write]

Each pair of grids of one source and GPU differs in one thing: the number of GPUs (twice or four
times as many the second time) or the model. The cost model's constants are those fitted without
the source, so that there is something left to learn on its cluster. ``--write`` writes
``analysis/results/warm_start.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from replay import Grid, load_grids, replay, score, whole
from rivals import METHODS

from autotune.costmodel.measured import TASK_KEY
from autotune.errors import BadInput
from autotune.search.warm_start import warm_started

RESULTS = Path(__file__).resolve().parent / "results"
OURS = METHODS["autotune"]
FIGURES = ("trials_to_5pct", "trials_to_2pct", "failed_trials")


def pairs(grids: Sequence[Grid]) -> Iterator[tuple[str, Grid, Grid]]:
    """(what differs, the earlier grid, the later one) where one thing does."""
    keyed = [(dict(zip(TASK_KEY, g.task.key, strict=True)), g) for g in grids if g.task is not None]
    for one, earlier in keyed:
        for other, later in keyed:
            differs = [name for name in TASK_KEY if one[name] != other[name]]
            if differs == ["model"]:
                yield "model", earlier, later
            if differs == ["gpus"] and float(other["gpus"]) / float(one["gpus"]) in (2.0, 4.0):
                yield "number of GPUs", earlier, later


def compared(differs: str, earlier: Grid, later: Grid, seed: int) -> dict[str, Any]:
    """The later grid searched cold, and with what the whole search of the earlier one taught."""
    assert earlier.task is not None and later.task is not None
    order = whole(earlier, OURS(earlier, seed)).order
    told = [earlier.run(at, row) for at, row in enumerate(order)]
    model = warm_started(later.task.model, earlier.task.model, earlier.legal, told)
    warm = replace(later, task=replace(later.task, model=model))
    cold, after = (score(grid, replay(grid, OURS(grid, seed))) for grid in (later, warm))
    return {
        "differs": differs, "earlier": earlier.name, "later": later.name, "seed": seed,
        "cold": {name: cold[name] for name in FIGURES},
        "warm": {name: after[name] for name in FIGURES},
    }  # fmt: skip


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Means over pairs and seeds, by what differs."""
    lines = [
        "# What a warm start saves",
        "",
        "Regenerate: `python analysis/warm_start.py ../shared/data/*.csv --write`",
        "",
        "Grids searched cold / after the whole search of another one, constants fitted without the",
        "source. Means over pairs; fewer and more: pairs in which the warm search needed fewer or",
        "more trials to within 5% of the best.",
        "",
        "| differs | pairs | to 5% | to 2% | failed trials | fewer | more |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for differs in dict.fromkeys(row["differs"] for row in rows):
        own = [row for row in rows if row["differs"] == differs]
        cells = [
            " / ".join(
                f"{statistics.fmean(row[side][name] for row in own):.2f}"
                for side in ("cold", "warm")
            )
            for name in FIGURES
        ]
        gains = [row["cold"][FIGURES[0]] - row["warm"][FIGURES[0]] for row in own]
        lines.append(
            f"| {differs} | {len(own)} | {' | '.join(cells)} "
            f"| {sum(g > 0 for g in gains)} | {sum(g < 0 for g in gains)} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Replays every pair, prints the table; 0, or 2 where no two grids make a pair."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tables", nargs="+", help="CSV files of measured runs")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write analysis/results/")
    options = parser.parse_args(arguments)
    try:
        told = list(pairs(load_grids(options.tables, least_configs=8, left_out="source")))
        if not told:
            raise BadInput("no two grids differ in one thing: model or number of GPUs")
    except (BadInput, OSError, KeyError) as error:
        print(f"warm_start: {error}", file=sys.stderr)
        return 2
    rows = [compared(*pair, seed) for pair in told for seed in range(options.seeds)]
    text = markdown(rows)
    print(text)
    if options.write:
        (RESULTS / "warm_start.md").write_text(text, encoding="utf-8")
        (RESULTS / "warm_start.json").write_text(json.dumps(rows) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
