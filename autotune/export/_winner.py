"""Puts together what an export needs: config, its job for good, where the figures came from."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import autotune
from autotune.controller.fingerprint import (
    differences,
    machines_of,
    software,
    software_differences,
    this_machine,
)
from autotune.controller.setting import Options, prepare_space
from autotune.controller.standing import Standing, result, standings
from autotune.errors import BadInput
from autotune.export import Winner
from autotune.frameworks import RenderContext, get_framework
from autotune.space import SearchSpace, load_space

if TYPE_CHECKING:
    from autotune.study.record import Study


def winner_of(study: Study, trial: int | None, folder: Path) -> Winner:
    """The study's winner, or the config of one trial, ready to be written into a folder.

    BadInput when nothing may win, or the trial did not end ok.
    """
    standing = _standing(study, trial)
    space = load_space(str(study.paths.space))
    options = Options.from_json(study.settings["options"])
    setting = prepare_space(space, replace(options, simulated=study_is_simulated(study)))
    index = setting.legal.find(standing.values)
    if index is None:
        raise BadInput(f"trial {standing.record.number}: its config is no longer legal")
    config = setting.legal.config(index)
    framework = get_framework(str(config.get("framework", space.frameworks[0])))
    context = RenderContext(trial_dir=folder, python=options.python, purpose="export")
    job = framework.render(space, config, context)
    note = getattr(framework, "checkpoint_note", lambda *_: None)(space, config)
    provenance = {**_provenance(study, standing), "git": _git_states(space)}
    return Winner(space, config, job, folder, provenance, (note,) if note else ())


def warnings_here(winner: Winner) -> list[str]:
    """In what this machine is not the one the figure was measured on; empty where it is."""
    facts = winner.provenance
    if facts["simulated"]:
        return []
    found = differences(facts["machines"], this_machine())
    return found + software_differences(facts["software"], software(facts["python_of_trials"]))


def study_is_simulated(study: Study) -> bool:
    """Whether its figures come from the simulated cluster."""
    return bool(study.settings.get("simulated"))


def _standing(study: Study, trial: int | None) -> Standing:
    maximize = study.settings.get("direction") != "minimize"
    if trial is None:
        found = result(study.records(), maximize).winner
        if found is None:
            raise BadInput(f"study {study.name!r} has no winner yet; --trial N exports one trial")
        return found
    record = study.record(trial)
    for standing in standings([record], maximize):
        return standing
    raise BadInput(f"trial {trial} ended {record.outcome or 'not yet'}: only an ok one is exported")


def _provenance(study: Study, standing: Standing) -> dict[str, Any]:
    objective = standing.objective
    metric = str(study.settings.get("metric", "tokens_per_s"))
    return {
        "study": study.name,
        "trial": standing.record.number,
        "trials_pooled": list(standing.numbers),
        "params": dict(standing.values),
        "config_hash": standing.config_hash,
        "metric": metric,
        "objective": {"value": objective.value, "low": objective.low, "high": objective.high},
        "figure": (
            f"{objective.value:.6g} {metric} (95%: {objective.low:.6g} to {objective.high:.6g})"
        ),
        "simulated": study_is_simulated(study),
        "measured_at": standing.record.ended_at,
        "nodes": list(standing.record.nodes),
        "autotune": autotune.__version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "space_fingerprint": study.settings.get("space_fingerprint"),
        "machines": [dict(found) for found in machines_of(study, standing.record.number)],
        "python_of_trials": str(study.settings["options"]["python"]),
        "software": dict(study.settings.get("software") or {}),
    }


def _git_states(space: SearchSpace) -> dict[str, str | None]:
    """The commit of the program's folder, and of the folder the export is made from."""
    program = Path(space.working_directory) if space.working_directory else None
    return {
        "program": _git_state(program) if program else None,
        "exported_from": _git_state(Path.cwd()),
    }


def _git_state(folder: Path) -> str | None:
    """The commit a folder is at, with a mark when it was changed since; None outside of git."""
    try:
        said = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
