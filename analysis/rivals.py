"""What others do with the same grid: every method of the comparison, by name.

Each is a proposer over the grid's own legal set. The rules of DeepSpeed, NeMo and Paddle are
written from their documentation and source, for grids that have more axes than they search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import optuna
from replay import Grid, Run

from autotune.search import Proposal, Proposer, Skipped, make_proposer
from autotune.search.orders import OrderProposer
from autotune.search.prior import CostPrior
from autotune.search.sampler import AutotuneProposer, Beliefs
from autotune.trial import Outcome, TrialRecord

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
SIZES = (
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "context_parallel_size",
    "expert_model_parallel_size",
    "virtual_pipeline_model_parallel_size",
)


class NoRecalibration(CostPrior):
    """The cost model as it ships: what it says of a config never changes."""

    def recentred(self, observations: object) -> CostPrior:
        """Itself."""
        return self


class NoMemoryBelief(AutotuneProposer):
    """Ours, blind to whether a config runs."""

    def _scores(self, rows: Ints, beliefs: Beliefs) -> Floats:
        certain = replace(beliefs, fit=_Certain())  # type: ignore[arg-type]
        return super()._scores(rows, certain)


class _Certain:
    def fits(self, rows: Ints) -> Floats:
        return np.ones(len(rows))


class NoDominance(AutotuneProposer):
    """Ours, without failing regions."""

    def _free(self, rows: Ints) -> Floats:
        return np.ones(len(rows))


class NoGaussianProcess(AutotuneProposer):
    """Ours, the smooth remainder taken for noise."""

    def _explain(self) -> None:
        super()._explain()
        self._rivals = [
            replace(
                r,
                kernel=replace(
                    r.kernel, smooth=0.0, noise=float(np.hypot(r.kernel.noise, r.kernel.smooth))
                ),
            )
            for r in self._rivals
        ]


class AdaptiveOrder:
    """A proposer that walks on from what it has seen; ``walk`` yields rows and is sent speeds."""

    def __init__(self, grid: Grid, walk: Callable[[Grid], Iterator[int]]) -> None:
        self.grid = grid
        self.speeds: dict[int, float] = {}
        self._walk = walk(grid, self.speeds)  # type: ignore[call-arg]

    def propose(self, history: Sequence[TrialRecord], pending: Sequence[int]) -> Proposal | None:
        """The next row of the walk."""
        for record in history[-1:]:
            row = self.grid.legal.find(record.values)
            if row is not None:
                ran = record.outcome is Outcome.OK
                self.speeds[row] = float(self.grid.speed[row]) if ran else 0.0
        row = next((r for r in self._walk if r not in self.speeds), None)
        return None if row is None else Proposal(row, "in turn")

    def finished(self, history: Sequence[TrialRecord]) -> str | None:
        """Never."""
        return None

    def skipped(self, history: Sequence[TrialRecord]) -> Iterator[Skipped]:
        """Nothing is explained."""
        return iter(())


def sizes(grid: Grid, name: str) -> Floats:
    """A column as numbers, what does not exist as 1."""
    return np.array([1.0 if v is None else float(v) for v in grid.legal.column(name)])


def texts(grid: Grid, name: str) -> npt.NDArray[np.str_]:
    """A column as text."""
    return np.array([str(v) for v in grid.legal.column(name)])


def deepspeed_walk(grid: Grid, speeds: dict[int, float]) -> Iterator[int]:
    """DeepSpeed's autotuner: per ZeRO stage and layout, grow the micro batch until < 5% gain."""
    stage, micro = sizes(grid, "zero_stage"), sizes(grid, "micro_batch_size")
    parallel = np.prod([sizes(grid, name) for name in SIZES[:4]], axis=0)
    rest = texts(grid, "recompute_granularity"), texts(grid, "attention_backend")
    keys = [sizes(grid, name) for name in SIZES]
    groups: dict[tuple[object, ...], list[int]] = {}
    for row in np.lexsort([micro, *rest, *keys, stage, parallel]).tolist():
        key = (parallel[row], stage[row], *(k[row] for k in keys), *(r[row] for r in rest))
        groups.setdefault(key, []).append(row)
    late = []
    for rows in groups.values():
        last = 0.0
        for at, row in enumerate(rows):
            yield row
            speed = speeds.get(row, 0.0)
            if speed < last * 1.05 or speed == 0.0:
                late += rows[at + 1 :]
                break
            last = speed
    yield from late


def paddle_walk(grid: Grid, speeds: dict[int, float]) -> Iterator[int]:
    """Paddle's auto-tuner: the grid from least model parallelism, pruned by what failed or ran.

    A larger micro batch after a failure and recompute where the config ran without it are
    pruned (here: put last).
    """
    micro, recompute = sizes(grid, "micro_batch_size"), texts(grid, "recompute_granularity")
    keys = [sizes(grid, name) for name in SIZES]
    others = [*keys, sizes(grid, "zero_stage"), texts(grid, "attention_backend")]
    parallel = np.prod(keys[:4], axis=0)
    kept = np.array([{"full": 2, "selective": 1}.get(text, 0) for text in recompute])
    late = []
    tried: list[int] = []
    for row in np.lexsort([micro, kept, *others, parallel]).tolist():
        alike = [r for r in tried if all(o[r] == o[row] for o in others)]
        too_big = any(
            not speeds.get(r) and micro[row] >= micro[r] and kept[row] <= kept[r] for r in alike
        )
        needless = any(
            speeds.get(r, 0.0) > 0.0 and micro[row] == micro[r] and kept[row] > kept[r]
            for r in alike
        )
        if too_big or needless:
            late.append(row)
            continue
        yield row
        tried.append(row)
    yield from late


def nemo_order(grid: Grid) -> Ints:
    """NeMo's launcher: nested loops over tp, pp, cp, ep, vpp, micro batch, recompute last."""
    keys = [sizes(grid, name) for name in SIZES]
    order = [texts(grid, "attention_backend"), texts(grid, "recompute_granularity")]
    micro = sizes(grid, "micro_batch_size")
    return np.lexsort([*order, sizes(grid, "zero_stage"), micro, *reversed(keys)])


def cost_model_order(grid: Grid) -> Ints:
    """Predicted fastest first among what is predicted to fit, then the rest by need."""
    prior = grid.prior()
    if prior is None:
        return np.arange(len(grid.configs))
    over = np.maximum(prior.memory.mean, 0.0)
    return np.lexsort([prior.log_time, over])


def shuffled(prior: CostPrior | None, seed: int) -> CostPrior | None:
    """A prior that says of each config what holds of another."""
    if prior is None:
        return None
    turned = np.random.default_rng(seed).permutation(len(prior.table))
    return CostPrior.around(prior.table.take(turned))


def fixed(prior: CostPrior | None) -> CostPrior | None:
    """A prior whose constants are taken as known."""
    if prior is None:
        return None
    memory = replace(prior.memory, widths=prior.memory.widths * 1e-4)
    changed = replace(prior, time_widths=prior.time_widths * 1e-4, memory=memory)
    return NoRecalibration(**changed.__dict__)


def plain_tpe(grid: Grid, seed: int) -> Run:
    """Optuna's TPE over the full product; an illegal ask is a trial with a violated constraint."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    choices = {name: [*grid.legal.choices[name]] for name in grid.legal.names}
    for name in choices:
        if (np.array(grid.legal.codes)[:, grid.legal.names.index(name)] < 0).any():
            choices[name].append(None)
    order = []
    while len(order) < len(grid.configs):
        trial = study.ask()
        values = {
            name: trial.suggest_categorical(name, options)
            for name, options in choices.items()
            if len(options) > 1
        }
        values |= {name: options[0] for name, options in choices.items() if len(options) == 1}
        row = grid.legal.find(values)
        order.append(-1 if row is None else row)
        ran = row is not None and grid.speed[row] > 0.0
        trial.set_constraint("runs", 0.0 if ran else 1.0)
        if ran:
            study.tell(trial, float(grid.speed[row]))
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        if ran and grid.speed[row] >= grid.best:
            break
    return Run(tuple(order))


def _ours(kind: type[AutotuneProposer]) -> Callable[[Grid, int], Proposer]:
    return lambda grid, seed: kind(grid.legal, seed=seed, prior=grid.prior())


def _optuna(name: str) -> Callable[[Grid, int], Proposer]:
    return lambda grid, seed: make_proposer(name, None, grid.legal, None, seed)


METHODS: dict[str, Callable[[Grid, int], Proposer]] = {
    "autotune": _ours(AutotuneProposer),
    "random": lambda grid, seed: OrderProposer(
        grid.legal, np.random.default_rng(seed).permutation(len(grid.configs)), "random"
    ),
    "heuristic": _optuna("heuristic"),
    "cost_model": lambda grid, seed: OrderProposer(grid.legal, cost_model_order(grid), "model"),
    "deepspeed": lambda grid, seed: AdaptiveOrder(grid, deepspeed_walk),  # type: ignore[arg-type]
    "nemo_grid": lambda grid, seed: OrderProposer(grid.legal, nemo_order(grid), "nemo"),
    "paddle": lambda grid, seed: AdaptiveOrder(grid, paddle_walk),  # type: ignore[arg-type]
    "tpe_legal": _optuna("tpe"),
    "gp": _optuna("gp"),
    "nsgaii": _optuna("nsgaii"),
    "no_recalibration": lambda grid, seed: AutotuneProposer(
        grid.legal, seed=seed, prior=fixed(grid.prior())
    ),
    "no_memory_belief": _ours(NoMemoryBelief),
    "no_dominance": _ours(NoDominance),
    "no_gp": _ours(NoGaussianProcess),
    "shuffled_prior": lambda grid, seed: AutotuneProposer(
        grid.legal, seed=seed, prior=shuffled(grid.prior(), seed)
    ),
    "no_prior": lambda grid, seed: AutotuneProposer(grid.legal, seed=seed),
}
RUNS: dict[str, Callable[[Grid, int], Run]] = {"tpe": plain_tpe}
"""Methods that cannot be a proposer over the legal set."""
DETERMINISTIC = frozenset({"heuristic", "cost_model", "deepspeed", "nemo_grid", "paddle"})
SLOW = frozenset({"tpe", "tpe_legal", "gp", "nsgaii"})
