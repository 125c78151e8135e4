"""A legal set's parameters as Optuna distributions: the same for every trial of a study.

Every parameter is categorical over its real values, so that a dashboard shows what was run and
no sampler is led outside of what the space offers.
"""

from __future__ import annotations

from optuna.distributions import BaseDistribution, CategoricalDistribution

from autotune.search.proposal import LegalRows


def distributions(legal: LegalRows) -> dict[str, BaseDistribution]:
    """One fixed distribution for each parameter that exists in some config, over its values."""
    offered = {name: [v for v in legal.choices[name] if v is not None] for name in legal.names}
    return {name: CategoricalDistribution(values) for name, values in offered.items() if values}
