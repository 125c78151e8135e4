"""Which config runs next, when a trial has told enough, when the study may end.

make_proposer("autotune", space, legal, cost_model, seed)    or any Optuna sampler by name
AutotuneSampler({...}, legal=...)                            ours, in anyone's Optuna script
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autotune.search.proposal import Proposal, Proposer, Skipped

if TYPE_CHECKING:
    from autotune.costmodel import CostModel
    from autotune.search.optuna_sampler import AutotuneSampler
    from autotune.search.proposal import LegalRows
    from autotune.space import SearchSpace
    from autotune.space.limits import Objective

__all__ = [
    "AutotuneSampler",
    "Proposal",
    "Proposer",
    "Skipped",
    "check_sampler",
    "make_proposer",
    "sampler_names",
]

OWN_NAMES = ("autotune", "grid", "heuristic")


def sampler_names() -> list[str]:
    """Every name that ``make_proposer`` knows."""
    from autotune.search.optuna_proposer import optuna_names

    return sorted([*OWN_NAMES, *optuna_names()])


def check_sampler(name: str) -> None:
    """BadInput for an unknown name, and where what an Optuna sampler needs is not installed."""
    if name in OWN_NAMES:
        return
    from autotune.errors import BadInput
    from autotune.search.optuna_proposer import make_optuna_sampler, optuna_names

    if name not in optuna_names():
        raise BadInput.unknown("sampler", name, sampler_names())
    make_optuna_sampler(name, seed=0)


def make_proposer(
    name: str,
    space: SearchSpace | None,
    legal: LegalRows,
    cost_model: CostModel | None = None,
    seed: int = 0,
    objective: Objective | None = None,
) -> Proposer:
    """A proposer by name: ``autotune``, ``grid``, ``heuristic``, or one of Optuna's samplers.

    All draw from ``legal`` only and repeat nothing. ``objective`` defaults to the space's.
    BadInput as of ``check_sampler``.
    """
    from autotune.space.limits import Objective as DefaultObjective

    check_sampler(name)
    judged_by = objective or (space.objective if space is not None else DefaultObjective())
    if name == "autotune":
        from autotune.search.sampler import AutotuneProposer

        return AutotuneProposer(legal, cost_model, judged_by, seed)
    if name in ("grid", "heuristic"):
        from autotune.search.orders import OrderProposer, grid_order, heuristic_order

        order = grid_order(legal) if name == "grid" else heuristic_order(legal)
        return OrderProposer(legal, order, name)
    from autotune.search.optuna_proposer import OptunaProposer

    return OptunaProposer(name, legal, judged_by, seed)


def __getattr__(name: str) -> Any:
    """Loads the Optuna sampler, and with it Optuna, only for those who ask for it."""
    if name == "AutotuneSampler":
        from autotune.search.optuna_sampler import AutotuneSampler

        return AutotuneSampler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
