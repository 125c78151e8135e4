"""`run --from STUDY`: what an earlier study taught about the cluster, kept in the new study.

The moved constants themselves are kept in ``study.json``, so that a resumed study goes on from
the same prior whatever has become of the earlier one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autotune.controller.setting import Setting, framework_rules, prepare_space
from autotune.costmodel import CostModel
from autotune.errors import BadInput
from autotune.search.warm_start import warm_started
from autotune.space import build_legal_set, load_space
from autotune.trial import Outcome

if TYPE_CHECKING:
    from autotune.study.record import Study

TEACHES = (Outcome.OK, Outcome.OOM_GPU)


def start_from(setting: Setting, earlier: Study) -> Setting:
    """The same setting with its cost model moved by an earlier study's residuals.

    Never by its throughputs, so the earlier study may have had other nodes, another model of
    the family or another GPU. BadInput where nothing could be carried.
    """
    name = earlier.name
    before = CostModel.for_space(space := load_space(str(earlier.paths.space)))
    for missing, whose in ((setting.cost_model, setting.space.name), (before, f"study {name!r}")):
        if missing is None:
            raise BadInput(
                f"--from {name}: there is no cost model for {whose} (it needs a model shape, "
                "cluster.gpu and a global batch), so no residuals can be carried."
            )
    assert setting.cost_model is not None and before is not None
    if bool(earlier.settings.get("simulated")) != setting.options.simulated:
        raise BadInput(
            f"--from {name}: one of the two is simulated and the other real; "
            "a simulated cluster teaches nothing about a real one."
        )
    told = [record for record in earlier.records() if record.outcome in TEACHES]
    if not told:
        raise BadInput(f"--from {name}: no trial of it ran or ran out of memory; it taught nothing")
    legal = build_legal_set(space, framework_rules(space))
    moved = warm_started(setting.cost_model, before, legal, told).constants
    kept: dict[str, Any] = {
        "study": name,
        "trials": len(told),
        "time_sigma": moved.time_sigma,
        "memory_sigma": moved.memory_sigma,
        "origin": moved.origin,
        "constants": moved.as_dict(),
    }
    return prepare_space(setting.space, replace(setting.options, warm_start=kept))
