"""The simulated cluster's own best, by computing the truth of every legal config; regrets.

    scripts/bench/simulated_optimum.py --seeds 20                  exhaustive best per seed
    scripts/bench/simulated_optimum.py --study NAME [NAME ...]     regret of finished studies

The truth is what `runners/simulated` tells a trial in noise and memory errors; nothing but this
script computes it for all configs. A study's regret is its winner's true step time over the
exhaustive best's on the machine of the study's own simulation seed, minus one. Everything here
is simulated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "runners"))

from simulated.physics import Truth, true_step_time_and_memory

from autotune.costmodel import CostModel
from autotune.errors import BadInput
from autotune.frameworks import get_framework
from autotune.space import LegalSet, SearchSpace, build_legal_set, load_space
from autotune.study.paths import StudyPaths, read_json


@dataclass(frozen=True)
class Machine:
    """One space on the simulated cluster of one seed, every legal config computed."""

    space: SearchSpace
    legal: LegalSet
    truth: Truth
    fits: np.ndarray

    @classmethod
    def of(cls, space: SearchSpace, seed: int) -> Machine:
        """Compute it; BadInput when the space says too little to be simulated."""
        model = CostModel.for_space(space)
        if model is None:
            raise BadInput(f"{space.name}: the simulated cluster needs model, GPU and contract")
        legal = build_legal_set(space, get_framework("megatron").rules(space))
        truth = true_step_time_and_memory(model, legal.columns(), seed)
        return cls(space, legal, truth, truth.fits(model.capacity_gib))

    @property
    def best(self) -> int:
        """The index of the fastest config that fits."""
        return int(np.where(self.fits, self.truth.step_time_s, np.inf).argmin())

    def regret(self, index: int) -> float:
        """How much longer a step of a config takes than the best's; inf when it does not fit."""
        if not self.fits[index]:
            return float("inf")
        return float(self.truth.step_time_s[index] / self.truth.step_time_s[self.best] - 1.0)


def describe(space: SearchSpace, seed: int) -> dict[str, Any]:
    """The exhaustive best of one seed beside the baseline."""
    machine = Machine.of(space, seed)
    best, base = machine.best, machine.legal.baseline
    time = machine.truth.step_time_s
    near = machine.fits & (time <= time[best] * 1.02)
    return {
        "seed": seed,
        "legal": len(machine.legal),
        "fit": int(machine.fits.sum()),
        "best_step_time_s": float(time[best]),
        "best": machine.legal.config(best).label,
        "within_2_percent": int(near.sum()),
        "baseline_step_time_s": float(time[base]),
        "baseline_fits": bool(machine.fits[base]),
        "gain": float(time[base] / time[best]),
    }


def regret_of_study(name: str) -> dict[str, Any]:
    """A finished study's winner against the exhaustive best of its own simulation seed."""
    paths = StudyPaths.named(name)
    settings = read_json(paths.settings)
    if settings is None:
        raise BadInput(f"study {name!r}: none is in the home; see `autotune status`")
    if not settings.get("simulated"):
        raise BadInput(f"study {name!r} did not run on the simulated cluster")
    seed = int(settings["options"].get("simulation_seed", 0))
    told = subprocess.run(
        [sys.executable, "-m", "autotune", "best", name, "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    params: Mapping[str, Any] = json.loads(told.stdout)["params"]
    machine = Machine.of(load_space(str(paths.space)), seed)
    index = machine.legal.find({k: v for k, v in params.items() if v is not None})
    if index is None:
        raise BadInput(f"study {name!r}: its winner is not in the legal set")
    return {
        "study": name,
        "seed": seed,
        "winner": machine.legal.config(index).label,
        "winner_step_time_s": float(machine.truth.step_time_s[index]),
        "best_step_time_s": float(machine.truth.step_time_s[machine.best]),
        "best": machine.legal.config(machine.best).label,
        "regret": machine.regret(index),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line a seed or study, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="llama70b_tp_pp")
    parser.add_argument("--seeds", type=int, default=5, help="simulation seeds 0 to this, less one")
    parser.add_argument("--study", nargs="+", default=[], help="finished simulated studies")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        if options.study:
            rows = [regret_of_study(name) for name in options.study]
        else:
            space = load_space(options.space)
            rows = [describe(space, seed) for seed in range(options.seeds)]
    except BadInput as error:
        parser.error(str(error))
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print("SIMULATED | " + " | ".join(f"{key} {_short(value)}" for key, value in row.items()))
    key = "regret" if options.study else "gain"
    print(f"median {key} of {len(rows)}: {statistics.median(row[key] for row in rows):.4f}")
    return 0


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
