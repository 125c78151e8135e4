"""A study as plots and reports see it: its records, how it stands, what the cost model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune import figures
from autotune.controller.fingerprint import described, machines_of
from autotune.controller.ladder import Measured, kept_ladder, measured
from autotune.controller.setting import Options, Setting, prepare_space
from autotune.controller.standing import Result, Standing, result, standings
from autotune.costmodel.table import Costs
from autotune.errors import AutotuneError
from autotune.space import LegalSet, load_space
from autotune.study.record import Study
from autotune.trial import Outcome, TrialRecord


@dataclass(frozen=True)
class MemoryMap:
    """What the cost model expects to fit, of every legal config."""

    rows: LegalSet
    likely: NDArray[np.bool_]

    @property
    def legal(self) -> int:
        """How many configs are legal."""
        return len(self.rows)

    @property
    def fitting(self) -> int:
        """How many of them are likely to fit."""
        return int(self.likely.sum())

    def cells(self, first: str, second: str) -> dict[tuple[str, str], tuple[int, int]]:
        """Legal configs and how many of them are likely to fit, by two parameters' values."""
        names = list(self.rows.names)
        a, b = (
            self.rows.codes[:, names.index(name)].astype(np.intp) + 1 for name in (first, second)
        )
        width = int(b.max(initial=0)) + 1
        counts = np.bincount(a * width + b)
        fits = np.bincount(a * width + b, weights=self.likely)
        return {
            (self._shown(first, cell // width - 1), self._shown(second, cell % width - 1)): (
                int(counts[cell]),
                int(fits[cell]),
            )
            for cell in np.flatnonzero(counts).tolist()
        }

    def _shown(self, name: str, code: int) -> str:
        return figures.shown(self.rows.choices[name][code] if code >= 0 else None)


@dataclass(frozen=True)
class Story:
    """All that is told of one study; ``breakdown`` is step time by part (s) by config name."""

    name: str
    records: Sequence[TrialRecord]
    metric: str
    maximize: bool
    settings: Mapping[str, Any]
    ended: str
    ladder: Sequence[Measured] = ()
    breakdown: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    legal: int | None = None
    memory: MemoryMap | None = None

    @property
    def unit(self) -> str:
        """The unit of the deciding figure."""
        return figures.unit(self.metric)

    @property
    def simulated(self) -> bool:
        """Whether any figure comes from the simulated cluster."""
        return any(record.simulated for record in self.records)

    @property
    def gpu_hours(self) -> float:
        """What all trials cost."""
        return gpu_hours(self.records)

    @property
    def searched(self) -> list[TrialRecord]:
        """Trials of the search and its final, without the rungs measured afterwards."""
        return [record for record in self.records if record.kind != "rung"]

    @cached_property
    def found(self) -> Result:
        """Winner, baseline, gain and ties."""
        opted_in = self.settings.get("opted_in") or ()
        return result(self.records, self.maximize, opted_in)

    @cached_property
    def ranked(self) -> list[Standing]:
        """All measured configs, best first."""
        return standings(self.records, self.maximize)

    @property
    def good(self) -> list[TrialRecord]:
        """Trials with a figure."""
        return [record for record in self.records if figures.objective_of(record) is not None]

    @property
    def failed(self) -> list[TrialRecord]:
        """Trials that ended otherwise than ok."""
        return [record for record in self.records if record.outcome is not Outcome.OK]

    @cached_property
    def varied(self) -> list[str]:
        """Parameters that took more than one value in this study."""
        names = list(self.records[0].values) if self.records else []
        return [n for n in names if len({str(r.values.get(n)) for r in self.records}) > 1]


def gpu_hours(records: Sequence[TrialRecord]) -> float:
    """What some trials cost."""
    return sum(record.gpu_seconds for record in records) / 3600


def story_of(study: Study) -> Story:
    """Read a study; what needs its space or cost model is left out where those do not load."""
    records = [record for record in study.records() if record.finished]
    maximize = study.settings.get("direction") != "minimize"
    facts = {
        "autotune": str(study.settings.get("version", "")),
        "space": f"{study.settings.get('space_name')} ({study.settings.get('space_fingerprint')})",
        "nodes": ", ".join(sorted({node for r in records for node in r.nodes})) or "n/a",
        **_measured_on(study, records, maximize),
    }
    breakdown: dict[str, dict[str, float]] = {}
    legal = memory = None
    try:
        options = Options.from_json(study.settings["options"])
        setting = prepare_space(load_space(str(study.paths.space)), options)
    except (AutotuneError, KeyError) as error:
        facts["space not loaded"] = str(error)
    else:
        legal = len(setting.legal)
        facts.update(_facts(setting))
        if setting.cost_model is not None:
            costs = setting.cost_model.prepare(setting.legal.columns()).predict()
            likely = costs.probability_fits(setting.cost_model.capacity_gib) >= 0.5
            memory = MemoryMap(setting.legal, np.asarray(likely))
            breakdown = _breakdown(setting.legal, costs, result(records, maximize))
    return Story(
        study.name,
        records,
        str(study.settings.get("metric", "tokens_per_s")),
        maximize,
        study.settings,
        str(study.noted("ended") or "not ended"),
        measured(kept_ladder(study), records, maximize),
        breakdown,
        facts,
        legal,
        memory,
    )


def _measured_on(study: Study, records: Sequence[TrialRecord], maximize: bool) -> dict[str, str]:
    """Machine and software, as the winner's trial (else the last one) met them."""
    software = study.settings.get("software") or {}
    found = result(records, maximize)
    last = found.winner.record if found.winner else next(reversed(records), None)
    machines = machines_of(study, last.number) if last is not None else []
    facts = {"machine": ", and ".join(sorted(set(map(described, machines))))}
    facts["software of trials"] = ", ".join(f"{n} {v}" for n, v in software.items())
    return {name: text for name, text in facts.items() if text}


def _facts(setting: Setting) -> dict[str, str]:
    cluster = setting.space.cluster
    hardware = cluster.hardware.name if cluster.hardware else "unknown hardware"
    return {
        "cluster": f"{cluster.nodes} x {cluster.gpus_per_node} {hardware}",
        "framework": ", ".join(setting.space.frameworks),
        "launcher": str(setting.options.launcher),
        "sampler": f"{setting.options.sampler}, seed {setting.options.seed}",
        "python of trials": setting.options.python,
    }


def _breakdown(legal: LegalSet, costs: Costs, found: Result) -> dict[str, dict[str, float]]:
    """Predicted step time by part (s) of the baseline and the winner, where they are legal."""
    breakdown = {}
    for name, standing in (("baseline", found.baseline), ("winner", found.winner)):
        index = legal.find(standing.values) if standing is not None else None
        if index is not None:
            parts = {part: float(values[index]) for part, values in costs.time_parts.items()}
            breakdown[name] = {part: seconds for part, seconds in parts.items() if seconds > 0}
    return breakdown
