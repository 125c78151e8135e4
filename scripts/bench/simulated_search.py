"""The search against the simulated cluster's truth, in one process: trials, OOMs, regret per seed.

    python scripts/bench/simulated_search.py --seeds 20 [--json FILE]

Everything here is simulated. The proposer is asked and told as the controller does it, the step
time of each trial is the truth with 0.4% noise; the regret is that of the fastest measured
config, over the exhaustive best of that seed's machine. `simulated_optimum.py --study` scores
whole studies that ran through processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "runners"))

from simulated.physics import true_step_time_and_memory

from autotune.controller.setting import framework_rules
from autotune.costmodel import CostModel
from autotune.search import make_proposer
from autotune.space import build_legal_set, load_space
from autotune.trial import Interval, Measurement, Outcome, Prediction, TrialRecord

NOISE = 0.004
CONTEXT_GIB = 1.0


class Machine:
    """One space on the simulated cluster of one seed."""

    def __init__(self, name: str, seed: int) -> None:
        self.space = load_space(name)
        self.legal = build_legal_set(self.space, framework_rules(self.space))
        model = CostModel.for_space(self.space)
        if model is None:
            raise SystemExit(f"{name}: has no model or hardware to simulate")
        self.model = model
        truth = true_step_time_and_memory(model, self.legal.columns(), seed)
        self.step_time_s = np.asarray(truth.step_time_s)
        self.fits = truth.fits(model.capacity_gib)
        self.peak_gib = truth.memory_gib.max(axis=1) - CONTEXT_GIB
        self.draw = np.random.default_rng(seed)
        contract = self.space.contract
        self.tokens = (contract.global_batch_size or 1) * (contract.seq_length or 1)

    def trial(self, number: int, row: int, prediction: Prediction) -> TrialRecord:
        """What a trial of one row comes to."""
        config = self.legal.config(row)
        measurement = None
        if self.fits[row]:
            seconds = float(self.step_time_s[row] * (1 + self.draw.normal(0, NOISE)))
            rate = self.tokens / seconds
            tokens = Interval(rate, rate * 0.99, rate * 1.01)
            measurement = Measurement(
                Interval(seconds, seconds * 0.99, seconds * 1.01),
                tokens_per_s=tokens,
                peak_memory_gib=float(self.peak_gib[row]),
                steps_used=10,
                objective=tokens,
            )
        return TrialRecord(
            number,
            dict(config.values),
            config.hash,
            kind="search" if number else "baseline",
            outcome=Outcome.OK if measurement else Outcome.OOM_GPU,
            measurement=measurement,
            prediction=prediction,
            seconds=100.0,
            gpu_seconds=100.0 * self.space.cluster.world_size,
            ran_to_end=measurement is not None,
        )


def search(name: str, seed: int, trials: int) -> dict[str, Any]:
    """One whole search on one machine."""
    machine = Machine(name, seed)
    proposer = make_proposer("autotune", machine.space, machine.legal, machine.model, seed)
    history = [machine.trial(0, machine.legal.baseline, Prediction())]
    while len(history) < trials and proposer.finished(history) is None:
        proposal = proposer.propose(history, [])
        if proposal is None:
            break
        history.append(machine.trial(len(history), proposal.index, proposal.prediction))
    measured = [t for t in history if t.measurement is not None]
    best = min(measured, key=lambda t: t.measurement.step_time_s.value)  # type: ignore[union-attr]
    row = machine.legal.find(best.values)
    exhaustive = float(machine.step_time_s[machine.fits].min())
    return {
        "seed": seed,
        "trials": len(history),
        "ended_by_itself": len(history) < trials,
        "oom": len(history) - len(measured),
        "repeated": len(history) - len({trial.config_hash for trial in history}),
        "regret": float(machine.step_time_s[row]) / exhaustive - 1.0,
    }


def main() -> None:
    """Run the seeds and print them with their medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", default="llama70b_tp_pp")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    rows = []
    for seed in range(wanted.seeds):
        rows.append(search(wanted.space, seed, wanted.trials))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    report = {
        "simulated": True,
        "space": wanted.space,
        "median_regret": statistics.median(row["regret"] for row in rows),
        "median_trials": statistics.median(row["trials"] for row in rows),
        "median_oom": statistics.median(row["oom"] for row in rows),
        "seeds": rows,
    }
    text = json.dumps(report, indent=1)
    if wanted.json:
        wanted.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
