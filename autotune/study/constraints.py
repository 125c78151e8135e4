"""How a failure is told as a violated constraint, in the one place that knows both ways.

Optuna 5 keeps constraints under ``constraints:<key>`` system attributes (`Trial.set_constraint`);
optuna-dashboard 0.21 still reads only the legacy attribute ``constraints``. Both are written
here; a test tells when the dashboard no longer needs the second.
"""

from __future__ import annotations

from autotune.trial import Outcome

OPTUNA_PREFIX = "constraints:"
DASHBOARD_ATTRIBUTE = "constraints"


def constraint_attributes(outcome: Outcome) -> dict[str, float | list[float]]:
    """System attributes for one outcome: feasible at <= 0, violated at 1.

    Only what teaches writes any: memory from ok and oom_gpu, legality from ok and
    invalid_config. Everything else says nothing about the config.
    """
    if outcome is Outcome.OK:
        memory, legality = 0.0, 0.0
    elif outcome is Outcome.OOM_GPU:
        memory, legality = 1.0, 0.0
    elif outcome is Outcome.INVALID_CONFIG:
        memory, legality = 0.0, 1.0
    else:
        return {}
    return {
        f"{OPTUNA_PREFIX}memory": memory,
        f"{OPTUNA_PREFIX}legality": legality,
        DASHBOARD_ATTRIBUTE: [memory, legality],
    }
