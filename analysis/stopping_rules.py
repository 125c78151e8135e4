"""When to stop measuring a trial: our rule beside the fixed step counts of others.

    python analysis/stopping_rules.py [--studies N] [--json FILE] [--write]

A study runs configs one after another and keeps the fastest by what each rule measured. Step times
are simulated (compile spikes, drift, throttling, heavy tails, correlated noise) or recorded on
this machine (matrix products of several sizes, timed while other work runs). Counted: seconds of
steps spent, studies whose pick is more than 2% slower than the best, mean loss of the pick.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.search.steady import SteadyState, StepLimits
from autotune.trial import Interval, StepSample

Floats = npt.NDArray[np.float64]
RESULTS = Path(__file__).resolve().parent / "results"
CONFIGS = 12
LENGTH = 50
WRONG = 0.02
SKIPPED = 3
Series = Callable[[np.random.Generator, int], Floats]


def clean(rng: np.random.Generator, length: int) -> Floats:
    """Half a percent of noise."""
    return np.asarray(1.0 + 0.005 * rng.standard_normal(length))


def compiling(rng: np.random.Generator, length: int) -> Floats:
    """A long first step, a slow second and third, a recompilation some steps later."""
    series = clean(rng, length)
    series[:3] += [25.0, 1.5, 0.6]
    series[int(rng.integers(4, 12))] += 12.0
    return series


def heavy_tailed(rng: np.random.Generator, length: int) -> Floats:
    """Student's t noise of 2%, and one step in thirty waits for data."""
    series = 1.0 + 0.02 * rng.standard_t(3, length)
    stalls = rng.random(length) < 1 / 30
    return np.maximum(series + stalls * rng.uniform(1.0, 4.0, length), 0.2)


def correlated(rng: np.random.Generator, length: int) -> Floats:
    """Noise of 1.5% that remembers: AR(1) of 0.7."""
    noise = np.zeros(length + 30)
    for k in range(1, len(noise)):
        noise[k] = 0.7 * noise[k - 1] + rng.standard_normal() * 0.015 * np.sqrt(1 - 0.7**2)
    return np.asarray(1.0 + noise[30:])


def drifting(rng: np.random.Generator, length: int) -> Floats:
    """Steps 10% slow at first that settle over a dozen steps."""
    return np.asarray(clean(rng, length) + 0.1 * np.exp(-np.arange(length) / 4.0))


def throttling(rng: np.random.Generator, length: int) -> Floats:
    """A cold device that is up to 6% fast for its first steps."""
    cold = rng.uniform(0.0, 0.06) * (np.arange(length) < rng.integers(3, 10))
    return np.asarray(clean(rng, length) - cold)


SIMULATED: dict[str, Series] = {
    "clean": clean,
    "compiling": compiling,
    "heavy_tailed": heavy_tailed,
    "correlated": correlated,
    "drifting": drifting,
    "throttling": throttling,
}


def fixed(steps: int) -> Callable[[Floats, Interval | None], tuple[float, int, Interval | None]]:
    """Runs so many steps and averages those after the third, as DeepSpeed's autotuner does."""

    def rule(series: Floats, best: Interval | None) -> tuple[float, int, Interval | None]:
        kept = series[min(SKIPPED, steps - 1) : steps]
        return float(kept.mean()), steps, None

    return rule


def ours(series: Floats, best: Interval | None) -> tuple[float, int, Interval | None]:
    """The steady-state rule: plainly worse stops, a contender is measured to 1%."""
    state = SteadyState(limits=StepLimits(min_steps=3))
    for step, seconds in enumerate(series.tolist(), start=1):
        state.feed(StepSample(step=step, seconds=seconds))
        if state.decide(best).stop:
            break
    merit = state.merit()
    assert merit is not None
    return merit.value, len(state.samples), merit


RULES = {"autotune": ours, "fixed_5": fixed(5), "fixed_20": fixed(20), "fixed_50": fixed(50)}


def study(
    rule: Callable[[Floats, Interval | None], tuple[float, int, Interval | None]],
    series: Sequence[Floats],
    truth: Sequence[float],
) -> dict[str, float]:
    """One study by one rule: seconds and steps spent, and what its pick loses."""
    best: Interval | None = None
    picked, lowest, spent, steps_run = 0, np.inf, 0.0, 0
    for at, steps in enumerate(series):
        value, used, interval = rule(steps, best)
        spent += float(steps[:used].sum())
        steps_run += used
        if value < lowest:
            picked, lowest, best = at, value, interval
    loss = truth[picked] / min(truth) - 1.0
    return {"seconds": spent, "steps": steps_run / len(series), "loss": loss}


def simulated_study(kind: Series, rng: np.random.Generator) -> tuple[list[Floats], list[float]]:
    """Configs spread like a search's trials: a few close to the best, the rest well behind."""
    truth = np.exp(np.concatenate([rng.uniform(0.0, 0.06, 4), rng.uniform(0.05, 1.0, CONFIGS - 4)]))
    rng.shuffle(truth)
    return [t * kind(rng, LENGTH) for t in truth], truth.tolist()


def record(sizes: Sequence[int], length: int = 400) -> list[Floats]:
    """Step times of matrix products on this machine, one series for each size (seconds)."""
    series = []
    for size in sizes:
        left, right = np.ones((size, size)), np.ones((size, size))
        taken = []
        for _ in range(length):
            start = time.perf_counter()
            left @ right
            taken.append(time.perf_counter() - start)
        series.append(np.array(taken))
    return series


def recorded_study(
    series: Sequence[Floats], rng: np.random.Generator
) -> tuple[list[Floats], list[float]]:
    """Windows of recorded series, in a random order; the truth is each whole series' median."""
    order = rng.permutation(len(series))
    windows = []
    for at in order:
        start = int(rng.integers(0, len(series[at]) - LENGTH))
        windows.append(series[at][start : start + LENGTH])
    return windows, [float(np.median(series[at])) for at in order]


def compare(studies: int, recorded: Sequence[Floats], seed: int = 0) -> dict[str, dict[str, Any]]:
    """By kind of series and rule: mean seconds, steps a config, share of wrong picks, mean loss."""
    result: dict[str, dict[str, Any]] = {}
    for kind in [*SIMULATED, "recorded"]:
        rng = np.random.default_rng(seed)
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in RULES}
        for _ in range(studies):
            if kind == "recorded":
                series, truth = recorded_study(recorded, rng)
            else:
                series, truth = simulated_study(SIMULATED[kind], rng)
            for name, rule in RULES.items():
                runs[name].append(study(rule, series, truth))
        result[kind] = {
            name: {
                "seconds": round(statistics.fmean(r["seconds"] for r in found), 5),
                "steps_per_config": round(statistics.fmean(r["steps"] for r in found), 2),
                "wrong": statistics.fmean(r["loss"] > WRONG for r in found),
                "mean_loss": round(statistics.fmean(r["loss"] for r in found), 5),
            }
            for name, found in runs.items()
        }
    return result


def markdown(result: dict[str, dict[str, Any]], studies: int) -> str:
    """A table: seconds against fixed_20, steps a config, wrong picks and mean loss."""
    lines = [
        "# When to stop a trial",
        "",
        "Regenerate: `python analysis/stopping_rules.py --write`",
        "",
        f"{studies} studies of a kind. Time is against fixed_20; wrong: the pick is more than "
        f"{WRONG:.0%} slower than the best.",
        "",
        "| series | rule | time | steps a config | wrong | mean loss |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for kind, rules in result.items():
        base = rules["fixed_20"]["seconds"]
        for name, f in rules.items():
            lines.append(
                f"| {kind} | {name} | {f['seconds'] / base:.2f} | {f['steps_per_config']:.1f} "
                f"| {f['wrong']:.1%} | {f['mean_loss']:.2%} |"
            )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares, prints the table, writes what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--write", action="store_true", help="write analysis/results/")
    options = parser.parse_args(arguments)
    recorded = record([224, 228, 232, 240, 256, 272, 288, 304, 320, 352, 384, 416])
    result = compare(options.studies, recorded)
    text = markdown(result, options.studies)
    print(text)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "stopping_rules.md").write_text(text, encoding="utf-8")
        (RESULTS / "stopping_rules.json").write_text(
            json.dumps(result, indent=1) + "\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
