"""A search space as a user means it: job, machine, contract, parameters and what may be spent.

The fields are the keys of the YAML file. `loading.load_space` makes one from a file; what it
returns is fully resolved (model and hardware looked up, templates read), so that `to_yaml` gives
a file that stands on its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from autotune.config import Config, ParameterValue
from autotune.errors import BadInput
from autotune.space.cluster import Cluster
from autotune.space.contract import CONTRACT_KEYS, Contract
from autotune.space.document import dump_document
from autotune.space.expression import Expression
from autotune.space.limits import Budget, Objective, TrialLimits
from autotune.space.model import ModelShape
from autotune.space.names import Names, Rows
from autotune.space.parameter import Parameter
from autotune.space.rule import Rule

NOT_IN_FINGERPRINT = ("name", "description", "cwd", "budget")


class Metric(BaseModel):
    """How the program's output becomes figures: exactly one of the two."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: str | None = Field(
        default=None, description="regular expression, one match a step, named groups are figures"
    )
    format: str | None = Field(default=None, description="a known log format, such as megatron")


class Template(BaseModel):
    """A file's text that is kept in a file of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str = Field(description="path, relative to the space file")


class Constraint(BaseModel):
    """A rule with the reason that is shown for what it excludes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str = Field(description="expression that a config has to meet")
    reason: str = Field(default="", description="shown for what the rule excludes")


class SearchSpace(BaseModel):
    """Model, cluster, workload, parameters, constraints, contract, objective, budget, baseline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="letters, digits, dot, dash and underscore",
    )
    description: str = Field(default="", description="for people")
    model: ModelShape | None = Field(
        default=None,
        description="a name in `search_spaces/models/`, the path of a Hugging Face config.json, "
        "or the shape itself",
    )
    cluster: Cluster = Field(default_factory=Cluster, description="where the trials run")
    framework: str | None = Field(
        default=None, description="how a config becomes a job; left out when it is a parameter"
    )
    runner: str | None = Field(default=None, description="the training program in `runners/`")
    launcher: str | None = Field(default=None, description="local, mpi, slurm, ray")
    launcher_options: dict[str, Any] = Field(
        default_factory=dict, description="passed on to the launcher, such as a Slurm partition"
    )
    command: tuple[str, ...] | None = Field(
        default=None, description="for framework `command`: program and arguments with {parameter}"
    )
    metric: Metric | None = Field(default=None, description="how output becomes figures")
    files: dict[str, str | Template] = Field(
        default_factory=dict,
        description="files rendered into the trial's folder: text, or {template: path}",
    )
    env: dict[str, str] = Field(default_factory=dict, description="environment, with {parameter}")
    cwd: str | None = Field(
        default=None, description="working directory; left out: the space file's folder"
    )
    contract: Contract = Field(default_factory=Contract, description="what must not change")
    parameters: dict[str, Parameter] = Field(
        default_factory=dict, description="what is searched, by name"
    )
    constraints: tuple[str | Constraint, ...] = Field(
        default=(), description="expressions, or {rule, reason}, that every config has to meet"
    )
    objective: Objective = Field(default_factory=Objective, description="what better means")
    baseline: dict[str, bool | int | float | str | None] = Field(
        default_factory=dict, description="the config you run today; it is measured first"
    )
    budget: Budget = Field(default_factory=Budget, description="what the study may spend")
    trial: TrialLimits = Field(default_factory=TrialLimits, description="length of one trial")
    options: dict[str, Any] = Field(
        default_factory=dict, description="values passed through to the framework"
    )

    _source: Path | None = PrivateAttr(default=None)

    @property
    def source(self) -> Path | None:
        """The file that the space was read from."""
        return self._source

    @property
    def frameworks(self) -> tuple[str, ...]:
        """The framework, or all of them when `framework` is a parameter."""
        if "framework" in self.choices:
            return tuple(str(value) for value in self.choices["framework"])
        return (self.framework,) if self.framework else ()

    @property
    def working_directory(self) -> str | None:
        """Absolute `cwd`, else the space file's folder, else None."""
        if self.cwd is not None:
            return self.cwd
        return str(self._source.resolve().parent) if self._source else None

    @cached_property
    def constants(self) -> dict[str, ParameterValue]:
        """Contract, cluster and model sizes by name; None where one is not told."""
        facts: dict[str, ParameterValue] = {}
        if self.model is not None:
            facts.update(_integers(self.model))
            facts["head_dim"] = self.model.head_dim
        facts.update(
            nodes=self.cluster.nodes,
            gpus_per_node=self.cluster.gpus_per_node,
            world_size=self.cluster.world_size,
        )
        hardware = self.cluster.hardware
        facts.update(
            gpu_vendor=hardware.vendor if hardware else None,
            gpu_has_fp8="fp8" in hardware.tflops if hardware else None,
        )
        facts.update({key: getattr(self.contract, key) for key in CONTRACT_KEYS})
        return facts

    @cached_property
    def choices(self) -> dict[str, tuple[ParameterValue, ...]]:
        """The values on offer for each parameter; BadInput where there are none."""
        sizes = {k: v for k, v in self.constants.items() if k not in self.parameters}
        return {name: p.choices(sizes) for name, p in self.parameters.items()}

    @cached_property
    def names(self) -> Names:
        """Every name that an expression of this space may use."""
        return Names(self.constants, self.choices)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Parameters so that each stands after those its `when` speaks of; else as written.

        BadInput when conditions go round in a circle.
        """
        needs = {
            name: self.names.parameters_of(Expression.parse(parameter.when)) - {name}
            if parameter.when
            else frozenset()
            for name, parameter in self.parameters.items()
        }
        order: list[str] = []
        while len(order) < len(needs):
            ready = next((n for n in needs if n not in order and needs[n] <= {*order}), None)
            if ready is None:
                circle = ", ".join(name for name in needs if name not in order)
                raise BadInput(f"the `when` conditions of {circle} depend on each other")
            order.append(ready)
        return tuple(order)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The space's own constraints."""
        return tuple(
            Rule(item) if isinstance(item, str) else Rule(item.rule, item.reason)
            for item in self.constraints
        )

    def facts(self, config: Config | Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
        """Every name with its value in one config: constants, parameters, derived sizes.

        Inactive parameters, and sizes that cannot be computed, are None.
        """
        values = config.values if isinstance(config, Config) else config
        facts = dict(self.names.constants)
        facts.update({name: values.get(name) for name in self.choices})
        rows = Rows(self.names, self.names.encode(values))
        return facts | {name: rows.value(name) for name in self.names.derived}

    def to_data(self) -> dict[str, Any]:
        """Plain data, fully resolved: domains as `values`, defaults left out."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        data["name"] = self.name
        if self.working_directory is not None:
            data["cwd"] = self.working_directory
        for name, parameter in self.parameters.items():
            resolved: dict[str, Any] = {"values": list(self.choices[name])}
            if parameter.when is not None:
                resolved["when"] = parameter.when
            if parameter.description:
                resolved["description"] = parameter.description
            data["parameters"][name] = resolved
        return data

    def to_yaml(self) -> str:
        """A file that stands on its own and loads to an equal space."""
        return dump_document(self.to_data())

    def fingerprint(self) -> str:
        """16 hex digits over all that decides what is measured.

        Not part of it: name, description, working directory and budget, which may change
        between a run and its resumption.
        """
        data = {k: v for k, v in self.to_data().items() if k not in NOT_IN_FINGERPRINT}
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def diff(self, other: SearchSpace) -> list[str]:
        """Readable lines, one for each key that differs: `key: mine -> theirs`."""
        mine, theirs = dict(_leaves(self.to_data())), dict(_leaves(other.to_data()))
        lines = []
        for key in [*mine, *(key for key in theirs if key not in mine)]:
            before, after = (side.get(key, "(absent)") for side in (mine, theirs))
            if before != after:
                lines.append(f"{key}: {before} -> {after}")
        return lines


def _integers(model: ModelShape) -> dict[str, ParameterValue]:
    """The integer sizes of a model; None for those it does not have."""
    fields = {name: getattr(model, name) for name in ModelShape.model_fields}
    return {k: v for k, v in fields.items() if v is None or type(v) is int}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and text of each leaf; a list of plain values is one leaf."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.dumps(value)
