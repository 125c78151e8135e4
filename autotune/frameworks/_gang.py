"""What jobs of one process per GPU have in common, whichever framework renders them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autotune.config import Config
from autotune.frameworks import RenderContext
from autotune.frameworks._environment import FROM_SPACE, space_environment, under_profiler
from autotune.logs import LogFormat, format_from_metric, get_format
from autotune.trial import Job, StartPer

if TYPE_CHECKING:
    from autotune.space import SearchSpace

DEFAULT_STEPS = 20


def steps_of(space: SearchSpace, context: RenderContext, default: int = DEFAULT_STEPS) -> int:
    """Optimizer steps of this run: an export runs `options.train_steps` where that is set."""
    if context.purpose == "export" and "train_steps" in space.options:
        return int(space.options["train_steps"])
    return context.steps or space.trial.steps or default


def gang_job(
    space: SearchSpace,
    config: Config,
    context: RenderContext,
    argv: Sequence[str],
    files: Mapping[str, str],
    *,
    steps: int | None,
    own_env: Mapping[str, str],
    why: str = "",
    cwd: str | None = None,
    per: StartPer = "rank",
    marks_range: bool = True,
) -> Job:
    """A job over the whole cluster; ``own_env`` is the framework's environment, and ``why`` says
    why it is set. The space's own variables count over it. ``marks_range``: see `under_profiler`.
    """
    env = space_environment(space, config)
    return Job(
        argv=under_profiler(argv, context, per, marks_range),
        env={**own_env, **env},
        files=files,
        cwd=cwd,
        per=per,
        nodes=space.cluster.nodes,
        gpus_per_node=space.cluster.gpus_per_node,
        time_limit_s=space.trial.time_limit_s,
        total_steps=steps,
        sources=dict.fromkeys(own_env, why) | dict.fromkeys(env, FROM_SPACE),
    )


def format_of(space: SearchSpace, default: str) -> LogFormat:
    """The format called ``default``; what `metric` says for a program of the user's own."""
    if space.metric is not None:
        return format_from_metric(space.metric.model_dump(exclude_none=True))
    return get_format(default)
