"""How much a study may spend, how long a trial may take, and what counts as better."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Direction = Literal["maximize", "minimize"]
ObjectiveMetric = Literal[
    "tokens_per_s",
    "tokens_per_s_per_gpu",
    "tflops_per_gpu",
    "mfu",
    "step_time_s",
    "peak_memory_gib",
    "time_to_target_s",
    "cost_per_token",
]
MAXIMIZED = frozenset({"tokens_per_s", "tokens_per_s_per_gpu", "tflops_per_gpu", "mfu"})


class Objective(BaseModel):
    """What is optimised; the direction follows from the metric unless it is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: ObjectiveMetric = Field(default="tokens_per_s", description="what is compared")
    direction: Direction | None = Field(default=None, description="left out: by the metric")
    price_per_gpu_hour: float | None = Field(
        default=None,
        gt=0,
        description="for cost_per_token: what a GPU costs an hour; left out: cost in GPU-hours",
    )
    target: float | None = Field(
        default=None, description="for time_to_target_s: the evaluation loss to reach"
    )
    seeds: int = Field(
        default=5,
        gt=0,
        description="for time_to_target_s: runs of each finalist to the target, a seed each; "
        "of five or more the fastest and the slowest do not count",
    )

    @property
    def maximize(self) -> bool:
        """Whether larger is better."""
        if self.direction is not None:
            return self.direction == "maximize"
        return self.metric in MAXIMIZED


class Budget(BaseModel):
    """What a study may spend; it ends at whichever limit comes first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: int | None = Field(default=40, gt=0, description="null: no limit on their number")
    gpu_hours: float | None = Field(default=None, gt=0, description="GPUs times hours, all trials")
    wall_time_s: float | None = Field(
        default=None, gt=0, description="seconds from the first trial"
    )
    finalists: int = Field(
        default=3,
        ge=0,
        description="how many of the best, within 10% of the leader, are measured again",
    )


class TrialLimits(BaseModel):
    """Steps and times of one trial; all times in real seconds on the node."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int | None = Field(
        default=None, gt=0, description="optimizer steps asked of the program; null: its own number"
    )
    min_steps: int = Field(default=5, gt=0, description="measured steps below which nothing counts")
    warmup_steps: int = Field(
        default=1,
        ge=0,
        description="first steps always dropped; further ones where seen to be slow",
    )
    time_limit_s: float = Field(
        default=1800.0,
        gt=0,
        description="the gang is ended after this; "
        "what it prepares before it can train is not counted",
    )
    startup_grace_s: float = Field(
        default=600.0, gt=0, description="no hang is called before the first step within this"
    )
    hang_floor_s: float = Field(
        default=60.0, gt=0, description="silence shorter than this is never called a hang"
    )
    stop_early: bool = Field(
        default=True,
        description="end a trial once it is known to 1%, or plainly worse than the best",
    )
    loss_tolerance: float = Field(
        default=0.05,
        gt=0,
        description="first losses further than this from the baseline's (relative) cannot win",
    )
    memory_check_nodes: int | None = Field(
        default=4,
        gt=1,
        description="jobs of so many nodes run one step on fewer first where their fit is unsure "
        "and that costs less than it saves; null: never",
    )
    proxy_gpus: int | None = Field(
        default=None,
        gt=0,
        description="search with smaller jobs of at most so many GPUs, corrected by the cost "
        "model; the best are run in full; null: never",
    )
    kill_grace_s: float = Field(default=10.0, ge=0, description="between SIGTERM and SIGKILL")
