"""How a failure is told as a violated constraint, in the one place that knows both ways.

Optuna 5 keeps constraints under ``constraints:<key>`` system attributes (`Trial.set_constraint`);
optuna-dashboard 0.21 still reads only the legacy attribute ``constraints``. Both are written
here; a test tells when the dashboard no longer needs the second.
"""

from __future__ import annotations

from autotune.trial import Outcome

OPTUNA_PREFIX = "constraints:"
DASHBOARD_ATTRIBUTE = "constraints"


def constraints(outcome: Outcome | None) -> dict[str, float]:
    """What an outcome says of a config: feasible at <= 0, violated at 1.

    Only what teaches says any: memory from ok and oom_gpu, legality from ok and
    invalid_config. Everything else says nothing about the config.
    """
    if outcome not in (Outcome.OK, Outcome.OOM_GPU, Outcome.INVALID_CONFIG):
        return {}
    return {
        "memory": float(outcome is Outcome.OOM_GPU),
        "legality": float(outcome is Outcome.INVALID_CONFIG),
    }


def constraint_attributes(outcome: Outcome) -> dict[str, float | list[float]]:
    """System attributes for one outcome, for Optuna and for the dashboard."""
    found = constraints(outcome)
    if not found:
        return {}
    attributes: dict[str, float | list[float]] = {
        f"{OPTUNA_PREFIX}{name}": value for name, value in found.items()
    }
    return {**attributes, DASHBOARD_ATTRIBUTE: list(found.values())}
