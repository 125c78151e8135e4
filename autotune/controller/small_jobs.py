"""The smaller jobs of a study: a config's own space on fewer nodes, with a smaller model.

What runs is the same config, rendered from a copy of the space that is smaller; so every
framework that passes the model's shape and the batch on can run one. A smaller job is made only
where the cost model knows both, and expects the smaller one to need no more memory than the
whole: its out-of-memory is then the config's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from autotune.config import Config
from autotune.costmodel import CostModel
from autotune.costmodel.constants import TIME_CONSTANTS
from autotune.errors import BadInput
from autotune.frameworks import get_framework
from autotune.search.fidelity import Correction, Size, fewer_layers, fewer_replicas, worth_a_check
from autotune.search.prior import prepare_table
from autotune.space import Rule, SearchSpace, build_legal_set
from autotune.space.parameter import Parameter
from autotune.trial import Fidelity, Prediction

if TYPE_CHECKING:
    from autotune.space import LegalSet

BY_STEP_TIME = ("tokens_per_s", "tokens_per_s_per_gpu", "step_time_s", "cost_per_token")
"""Metrics that follow from the step time of a whole job."""
SAME_NEED = 1.01
"""A smaller job may be expected to need so many times what the whole one needs."""


@dataclass(frozen=True)
class SmallJob:
    """One config made smaller: the space and config to render, and what its figures mean."""

    space: SearchSpace
    config: Config
    share: float
    correction: Correction


class SmallJobs:
    """Which configs of a study may run smaller first, and how."""

    def __init__(
        self, space: SearchSpace, rules: tuple[Rule, ...], cost_model: CostModel | None
    ) -> None:
        self._space = space
        self._rules = rules
        self._cost_model = cost_model
        self._made = lru_cache(maxsize=256)(self._make)

    def of(self, config: Config, fidelity: Fidelity) -> SmallJob | None:
        """The smaller job of a config, None where there is none."""
        return self._made(config, fidelity)

    def first_look(self, config: Config, prediction: Prediction) -> tuple[Fidelity, str]:
        """At which fidelity a config of the search runs first, and what to say of it."""
        trial = self._space.trial
        world = self._space.cluster.world_size
        if trial.proxy_gpus is not None and trial.proxy_gpus < world:
            proxy = self.of(config, "proxy")
            if proxy is not None and round(proxy.share * world) <= trial.proxy_gpus:
                return "proxy", f"by proxy on {proxy.correction.words}"
        nodes, fits = trial.memory_check_nodes, prediction.probability_fits
        if nodes is not None and self._space.cluster.nodes >= nodes:
            check = self.of(config, "check")
            if check is not None and worth_a_check(fits, check.share):
                return "check", f"one step on {check.correction.words} first, to see if it fits"
        return "full", ""

    def _make(self, config: Config, fidelity: Fidelity) -> SmallJob | None:
        size = self._size(config)
        proxy = fidelity == "proxy"
        if size is None or (proxy and self._space.objective.metric not in BY_STEP_TIME):
            return None
        framework = get_framework(str(config.get("framework", self._space.frameworks[0])))
        passes_on = getattr(framework, "passes_on", None)
        wanted = {"global_batch_size", "num_layers"} if proxy else {"global_batch_size"}
        if passes_on is None or not wanted <= passes_on(self._space):
            return None
        whole = self._alone(config, size)
        if whole is None:
            return None
        for smaller in fewer_replicas(size, self._space.cluster.gpus_per_node, 2 if proxy else 1):
            made = self._sized(config, _shrunk(config, smaller) if proxy else smaller, whole)
            if made is not None:
                return made
        return None

    def _size(self, config: Config) -> Size | None:
        """The whole job; None where its parts are not known, or the batch is itself searched."""
        space = self._space
        replicas = space.facts(config).get("data_parallel_size")
        batch = space.contract.global_batch_size
        if space.model is None or "global_batch_size" in space.parameters:
            return None
        if self._cost_model is None or not batch or not isinstance(replicas, int) or replicas < 1:
            return None
        return Size(space.cluster.nodes, replicas, batch, space.model.num_layers)

    def _sized(self, config: Config, size: Size, whole: LegalSet) -> SmallJob | None:
        """The config at a size; None where it is not legal there or would need more memory."""
        small = self._alone(config, size)
        if small is None or small.space.model is None or self._cost_model is None:
            return None
        model = replace(
            self._cost_model,
            shape=small.space.model,
            cluster=small.space.cluster,
            workload=replace(self._cost_model.workload, global_batch_size=size.global_batch_size),
        )
        tables = prepare_table(self._cost_model, whole), prepare_table(model, small)
        mean, constants = tables[0].constants.mean, tables[0].constants
        need, needs_small = (float(table.device_memory(mean)[0]) for table in tables)
        if needs_small > SAME_NEED * need:
            return None
        (time, slopes), (time_small, slopes_small) = (t.step_time_and_slopes(mean) for t in tables)
        apart = (slopes[0] - slopes_small[0]) * constants.sigma[: len(TIME_CONSTANTS)]
        correction = Correction(
            time=float(time[0] / time_small[0]),
            sigma=float(np.hypot(np.linalg.norm(apart), constants.time_sigma)),
            memory=float(tables[0].allocated(mean)[0] / tables[1].allocated(mean)[0]),
            gpus=self._space.cluster.world_size,
            tokens=float(tables[0].tokens[0]),
            words=self._words(small.space),
        )
        share = size.nodes / self._space.cluster.nodes
        return SmallJob(small.space, small.config(0), share, correction)

    def _alone(self, config: Config, size: Size) -> LegalSet | None:
        """The legal set of nothing but this config at a size; None where it is not legal there."""
        try:
            legal = build_legal_set(_one_point(self._space, config, size), self._rules)
        except BadInput:
            return None
        return legal if dict(legal.config(0).values) == dict(config.values) else None

    def _words(self, small: SearchSpace) -> str:
        words = f"{small.cluster.nodes} of {self._space.cluster.nodes} nodes"
        if small.model != self._space.model and small.model and self._space.model:
            words += f", {small.model.num_layers} of {self._space.model.num_layers} layers"
        return words


def _shrunk(config: Config, size: Size) -> Size:
    """A size with fewer layers in each virtual stage of a config."""
    stages = ("pipeline_model_parallel_size", "virtual_pipeline_model_parallel_size")
    pipeline, virtual = (_whole(config, name, 1) for name in stages)
    return fewer_layers(size, pipeline * virtual, _whole(config, "recompute_num_layers", 0))


def _whole(config: Config, name: str, default: int) -> int:
    value = config.get(name)
    return value if isinstance(value, int) else default


def _one_point(space: SearchSpace, config: Config, size: Size) -> SearchSpace:
    """The space at another size, with the config as its only point."""
    parameters = {}
    for name, parameter in space.parameters.items():
        value = config.values[name]
        offered = space.choices[name][0] if value is None else value
        assert offered is not None
        parameters[name] = Parameter(values=(offered,), when=parameter.when)
    assert space.model is not None
    small = space.model_copy(
        update={
            "parameters": parameters,
            "baseline": {},
            "cwd": space.working_directory,
            "cluster": space.cluster.model_copy(update={"nodes": size.nodes}),
            "contract": space.contract.model_copy(
                update={"global_batch_size": size.global_batch_size}
            ),
            "model": space.model.model_copy(update={"num_layers": size.num_layers}),
        }
    )
    return SearchSpace.model_validate(small.model_dump())
