"""Opens studies that need more than opening: a damaged storage, a space that has grown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from autotune.controller.setting import Setting, framework_rules
from autotune.search.distributions import distributions
from autotune.space import build_legal_set, load_space
from autotune.study.paths import StudyPaths, numbered_name
from autotune.study.record import Study
from autotune.study.repair import repair


def repair_study(name: str) -> tuple[Study, Path]:
    """Rebuild a study's damaged database from its files; the study and the kept database."""
    paths = StudyPaths.named(name)
    space = load_space(str(paths.space))
    legal = build_legal_set(space, framework_rules(space))
    return repair(paths, distributions(legal))


def extend_study(old: Study, setting: Setting, url: str | None) -> Study:
    """A new study over a changed space that starts with every finished trial still legal there.

    Optuna fixes a study's distributions, so a space that grew needs a study of its own; nothing
    is measured again, and the old study stays as it is.
    """
    settings = {**old.settings, "space_fingerprint": setting.space.fingerprint()}
    settings = {
        key: value
        for key, value in settings.items()
        if key not in ("format", "name", "version", "storage")
    }
    paths = StudyPaths.named(numbered_name(old.name))
    study = Study.create(paths, setting.space.to_yaml(), settings, url)
    offered = distributions(setting.legal)
    for record in old.records():
        index = setting.legal.find(record.values)
        if not record.finished or index is None:
            continue
        whole = dataclasses.replace(record, values=dict(setting.legal.config(index).values))
        added = study.add_like(whole, offered)
        told = dataclasses.replace(
            whole,
            number=added.number,
            config_hash=added.config_hash,
            outcome_reason=f"{record.outcome_reason} (trial {record.number} of {old.name})",
        )
        study.tell(told)
    return study
