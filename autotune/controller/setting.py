"""What a search stands on, put together once: space, legal set, framework, launcher, proposer.

`run --dry-run`, `run`, `resume` and `plan` all start here, so that bad input is found before
anything is created or started.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from autotune.config import Config, ParameterValue
from autotune.controller.small_jobs import SmallJobs
from autotune.costmodel import CostModel
from autotune.costmodel.constants import constants_from
from autotune.costmodel.counts import flops_per_token
from autotune.errors import BadInput
from autotune.frameworks import Framework, RenderContext, framework_names, get_framework
from autotune.launchers import Launcher, check_place, get_launcher, room_for, without_gpus
from autotune.launchers.nvml import read_gpus
from autotune.search import Proposer, check_sampler, make_proposer
from autotune.search.proposal import LegalRows
from autotune.search.steady import StepLimits, Workload
from autotune.search.twins import without_twins
from autotune.space import LegalSet, Rule, SearchSpace, build_legal_set, load_space, read_keys
from autotune.trial import SMALLER, Fidelity, Job

SIMULATED_COMPRESSION = 1000.0
SEED = RenderContext.seed
Profiler: TypeAlias = 'Literal["torch", "nsys"]'


@dataclass(frozen=True)
class Options:
    """How a search was asked for; all of it is kept in ``study.json``."""

    launcher: str | None = None
    launcher_options: Mapping[str, Any] = field(default_factory=dict)
    sampler: str = "autotune"
    seed: int = 0
    parallel: int = 1
    """Trials side by side; 0: as many as fit, see ``Setting.parallel``."""
    python: str = sys.executable
    simulated: bool = False
    simulation_seed: int = 0
    time_compression: float = SIMULATED_COMPRESSION
    warm_start: Mapping[str, Any] | None = None
    """The cost model's constants as an earlier study left them, and which one that was."""

    def to_json(self) -> dict[str, Any]:
        """The options as JSON."""
        return {**self.__dict__, "launcher_options": dict(self.launcher_options)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Options:
        """Options as they were stored; unknown keys of later versions are left out."""
        return cls(**{key: data[key] for key in cls.__dataclass_fields__ if key in data})


@dataclass(frozen=True)
class Setting:
    """A search, ready to run."""

    space: SearchSpace
    options: Options
    legal: LegalSet
    launcher: Launcher
    cost_model: CostModel | None

    @cached_property
    def proposer(self) -> Proposer:
        """What proposes trials; made when first asked for, as only a search needs it."""
        if self.first_fidelity == "throughput":
            return without_twins(self.legal, self.legal.baseline, self._propose_from)
        return self._propose_from(self.legal)

    def _propose_from(self, rows: LegalRows) -> Proposer:
        options = self.options
        return make_proposer(options.sampler, self.space, rows, self.cost_model, options.seed)

    @property
    def made_smaller(self) -> bool:
        """Whether the space's `options.without_gpu` were applied, there being no GPU."""
        hardware = self.space.cluster.hardware
        return (
            "without_gpu" in self.space.options
            and hardware is not None
            and (hardware.vendor == "cpu")
        )

    @property
    def maximize(self) -> bool:
        """Whether a larger objective is better."""
        return self.space.objective.maximize

    def framework(self, config: Config) -> Framework:
        """The framework of a config: the space's, unless it is a parameter."""
        return get_framework(str(config.get("framework", self.space.frameworks[0])))

    @property
    def first_fidelity(self) -> Fidelity:
        """What the trials of the search run."""
        return first_fidelity(self.space)

    @property
    def times_training(self) -> bool:
        """Whether the score is the time to a target loss."""
        return self.space.objective.metric == "time_to_target_s"

    @property
    def parallel(self) -> int:
        """Trials side by side: as asked, else as many of the baseline's shape as fit now."""
        if self.options.parallel:
            return self.options.parallel
        return room_for(self.launcher, self.baseline_job())

    def check_place(self) -> None:
        """BadInput or InfrastructureError where no trial could ever start there."""
        check_place(self.launcher, self.baseline_job())

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs to the target, that of all other trials first."""
        return tuple(range(SEED, SEED + self.space.objective.seeds))

    def context(
        self,
        trial_dir: Path,
        fidelity: Fidelity | None = None,
        seed: int | None = None,
    ) -> RenderContext:
        """What a trial is rendered with."""
        return RenderContext(
            trial_dir=trial_dir,
            seed=SEED if seed is None else seed,
            fidelity=fidelity or self.first_fidelity,
            python=self.options.python,
            simulated=self.options.simulated,
            simulation_seed=self.options.simulation_seed,
            time_compression=self.options.time_compression if self.options.simulated else 1.0,
        )

    def render(
        self,
        config: Config,
        trial_dir: Path,
        fidelity: Fidelity | None = None,
        seed: int | None = None,
    ) -> Job:
        """The job of one config in its folder.

        The fidelity is the search's unless another is given, the seed the one of all trials.
        """
        small = self.smaller.of(config, fidelity) if fidelity in SMALLER else None
        whole = "full" if small else fidelity
        context = self.context(trial_dir, whole, seed)
        if small is None:
            return self.framework(config).render(self.space, config, context)
        if fidelity == "check":
            context = replace(context, steps=1)
        return self.framework(config).render(small.space, small.config, context)

    def render_profiled(
        self, config: Config, trial_dir: Path, tool: Profiler, nsys_options: Sequence[str] = ()
    ) -> Job:
        """The job of one config with a profiler switched on."""
        plain = self.context(trial_dir)
        context = replace(plain, profiler=tool, nsys_options=tuple(nsys_options))
        return self.framework(config).render(self.space, config, context)

    @cached_property
    def smaller(self) -> SmallJobs:
        """The smaller jobs that configs may run as first."""
        return SmallJobs(self.space, self.legal.rules, self.cost_model)

    def baseline(self) -> Config:
        """The config that is measured first."""
        return self.legal.config(self.legal.baseline)

    def baseline_job(self) -> Job:
        """The baseline's job, to be looked at and not to be started."""
        return self.render(self.baseline(), Path("/nonexistent"))

    def workload(self, config: Config, job: Job, fidelity: Fidelity = "full") -> Workload:
        """What turns this config's step times into rates."""
        small = self.smaller.of(config, fidelity) if fidelity in SMALLER else None
        space, config = (small.space, small.config) if small else (self.space, config)
        facts = space.facts(config)
        batch, length = facts.get("global_batch_size"), facts.get("seq_length")
        metric = self.space.objective.metric
        samples = float(batch) if isinstance(batch, (int, float)) and batch else None
        tokens = samples * float(length) if samples and isinstance(length, (int, float)) else None
        derived = metric in DERIVED_METRICS and (tokens is not None or metric not in RATES)
        judged_by = "tokens_per_s" if metric in RATES else metric
        derived = derived or fidelity == "throughput"
        return Workload(
            tokens_per_step=tokens,
            samples_per_step=samples,
            gpus=max(1, job.nodes * job.gpus_per_node),
            flops_per_token=_flops_per_token(space),
            peak_flops_per_gpu=self._peak_flops(facts),
            metric=None if derived else judged_by,
            maximize=self.maximize or metric in RATES,
            clock_rate=job.time_compression,
        )

    def _peak_flops(self, facts: Mapping[str, ParameterValue]) -> float | None:
        """Dense peak at the precision of a config, FLOP/s of one GPU; None where it is not known.

        Products in fp32 may run as tf32. A CPU host's rate is nobody's datasheet figure.
        """
        rates = self._rates()
        precision = str(facts.get("precision") or "bf16")
        names = ("tf32", "fp32") if precision in ("fp32", "tf32") else (precision, "bf16", "fp16")
        known = [rates[name] for name in names if name in rates]
        return known[0] * 1e12 if known else None

    def fastest_tflops(self) -> float | None:
        """What no config can exceed on this hardware at any precision, TFLOP/s of one GPU."""
        return max(self._rates().values(), default=None)

    def _rates(self) -> Mapping[str, float]:
        hardware = self.space.cluster.hardware
        if hardware is None or hardware.vendor == "cpu":
            return {}
        return hardware.tflops

    def step_limits(self) -> StepLimits:
        """When a trial has told enough."""
        trial = self.space.trial
        return StepLimits(min_steps=trial.min_steps, warmup_steps=trial.warmup_steps)


RATES = ("tokens_per_s", "cost_per_token")
"""Metrics that need a rate in tokens: the program's own where the tokens of a step are unknown."""
DERIVED_METRICS = (*RATES, "step_time_s", "tflops_per_gpu", "peak_memory_gib")


def _flops_per_token(space: SearchSpace) -> float | None:
    if space.model is None or space.contract.seq_length is None:
        return None
    return flops_per_token(space.model, space.contract.seq_length)


def first_fidelity(space: SearchSpace) -> Fidelity:
    """What the trials of a search run: a time to train is searched by throughput first."""
    found: set[Fidelity] = {
        first(space) if first else "full"
        for first in (
            getattr(get_framework(name), "first_fidelity", None) for name in space.frameworks
        )
    }
    timed = space.objective.metric == "time_to_target_s"
    return found.pop() if len(found) == 1 else "target" if timed else "full"


def framework_rules(space: SearchSpace) -> tuple[Rule, ...]:
    """The legality rules of the space's framework; of each, where the framework is searched."""
    if not space.frameworks:
        raise BadInput.unknown("framework", "", framework_names(), where=f"{space.name}: framework")
    if "framework" not in space.parameters:
        return get_framework(space.frameworks[0]).rules(space)
    return tuple(
        Rule(f"framework != '{name}' or ({rule.expression})", rule.reason, rule.origin)
        for name in space.frameworks
        for rule in get_framework(name).rules(space)
    )


def prepare(
    space_name: str,
    overrides: Sequence[str] = (),
    options: Options | None = None,
    simulate: bool | None = None,
) -> Setting:
    """Load, validate and enumerate; BadInput before anything was created or started.

    ``simulate`` None: the simulated cluster, where the framework has one, there is no GPU here
    and no launcher was asked for by name. The overrides in a space's `options.without_gpu` are
    applied before the user's own when trials would run where there is none.
    """
    options = options or Options()
    keys = read_keys(space_name, overrides)
    launcher = options.launcher or keys.get("launcher")
    smaller = _without_gpu(keys.get("options"))
    if smaller and without_gpus(_place(launcher, keys, options)):
        overrides = (*smaller, *overrides)
    space = load_space(space_name, tuple(overrides))
    can_simulate = all(
        getattr(get_framework(name), "simulates", False) for name in space.frameworks
    )
    if simulate is None:
        simulate = can_simulate and launcher is None and space.runner is None and not read_gpus()
    if simulate and not can_simulate:
        raise BadInput(f"{space.name}: {', '.join(space.frameworks)} has no simulated cluster")
    merged = {**space.launcher_options, **options.launcher_options}
    settled = replace(
        options, launcher=launcher or "local", launcher_options=merged, simulated=simulate
    )
    return prepare_space(space, settled)


def _place(launcher: str | None, keys: Mapping[str, Any], options: Options) -> Launcher:
    """Where trials would run, before the space was checked."""
    told = keys.get("launcher_options")
    told = told if isinstance(told, dict) else {}
    return get_launcher(str(launcher or "local"), {**told, **options.launcher_options})


def _without_gpu(options: Any) -> tuple[str, ...]:
    told = options.get("without_gpu") if isinstance(options, dict) else None
    return tuple(map(str, told)) if isinstance(told, list) else ()


def prepare_space(space: SearchSpace, options: Options) -> Setting:
    """The setting of a space that is loaded already (a resumed study's own copy, say)."""
    launcher = options.launcher or "local"
    check_sampler(options.sampler)
    legal = build_legal_set(space, framework_rules(space))
    cost_model = CostModel.for_space(space)
    if cost_model is not None and options.warm_start is not None:
        cost_model = replace(cost_model, constants=constants_from(options.warm_start))
    setting = Setting(
        space, options, legal, get_launcher(launcher, dict(options.launcher_options)), cost_model
    )
    check_program(setting.baseline_job(), launcher)
    return setting


def check_program(job: Job, launcher: str) -> None:
    """BadInput when the job's program or working directory is not on this machine."""
    if launcher != "local":
        return
    if job.cwd is not None and not Path(job.cwd).is_dir():
        raise BadInput(f"cwd {job.cwd}: no such directory. Set `cwd` in the space.")
    program = job.argv[0]
    folder = Path(job.cwd) if job.cwd else Path.cwd()
    found = shutil.which(program, path=job.env.get("PATH")) or shutil.which(str(folder / program))
    if found is None:
        raise BadInput(
            f"program {program!r} was not found on PATH or in {folder}. "
            "Correct `command` in the space, or activate the environment that has it."
        )
