"""What Slurm can never grant: told before a job is queued, and of one that waits in vain.

Slurm takes most of such jobs and has them wait for good, with a reason. Reasons that pass by
themselves (Resources, ReqNodeNotAvail, the limits of a group's use) are not counted in, nor are
those that somebody has to undo on purpose (JobHeldUser, PartitionDown).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autotune.launchers import _slurm_commands

HOPELESS = re.compile(
    r"BadConstraints|Invalid(Account|QOS)|(Account|QOS)NotAllowed|MaxMemPerLimit|"
    r"(Association|QOS)TimeLimit|(Assoc|QOS)(Max|Min)\w+Per(Job|Node)(Limit)?|QOSMin\w+"
)
BY_PARTITION = ("PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig")
"""Reasons that also stand where a partition's nodes are down, so that its limits have to tell."""


@dataclass(frozen=True)
class Partition:
    """The most that a partition gives one job."""

    name: str
    nodes: float
    time_s: float

    @classmethod
    def of(cls, told: Mapping[str, str]) -> Partition:
        """From scontrol's facts about it."""
        limit = told.get("MaxNodes", "UNLIMITED")
        most = math.inf if limit == "UNLIMITED" else float(limit)
        time_s = _slurm_commands.parse_duration_s(told.get("MaxTime", "UNLIMITED"))
        return cls(told["PartitionName"], min(most, float(told["TotalNodes"])), time_s)

    def lacks(self, nodes: int, time_s: float) -> str:
        """Which of a job's wishes it can never fulfil, and what to change; empty if it can all."""
        if nodes > self.nodes:
            return (
                f"{nodes} nodes are asked for, partition {self.name} gives a job {self.nodes:g} "
                "at most: set cluster.nodes, or the launcher's option partition"
            )
        if time_s > self.time_s:
            return (
                f"a time limit of {time_s / 60:.0f} min is asked for, partition {self.name} allows "
                f"{self.time_s / 60:.0f} min: lower trial.time_limit_s by "
                f"{time_s - self.time_s:.0f} s or more, or set the launcher's option partition"
            )
        return ""


def lacking(names: str, nodes: int, time_s: float) -> str:
    """Why none of the named partitions (none named: the default one) can ever run a job."""
    facts = _slurm_commands.show_partitions()
    wanted = set(names.split(",")) if names else set()
    chosen = [
        Partition.of(told)
        for told in facts
        if (told["PartitionName"] in wanted if wanted else told.get("Default") == "YES")
    ]
    reasons = [partition.lacks(nodes, time_s) for partition in chosen]
    return reasons[0] if reasons and all(reasons) else ""


def never(told: Mapping[str, str]) -> str:
    """Why a waiting job, by scontrol's facts, will never start; empty while it may."""
    reason = told.get("Reason", "")
    if reason in BY_PARTITION:
        nodes = int(told.get("NumNodes", "0").partition("-")[0])
        time_s = _slurm_commands.parse_duration_s(told.get("TimeLimit", "NOT_SET"))
        return lacking(told.get("Partition", ""), nodes, 0.0 if math.isinf(time_s) else time_s)
    if HOPELESS.fullmatch(reason):
        return "Slurm will never start it as asked: correct the launcher's options or the limits"
    return ""


def partition_of(placement: Sequence[str]) -> str:
    """The partitions that sbatch is told, comma-separated; empty for the default one."""
    found = [word.partition("=")[2] for word in placement if word.startswith("--partition=")]
    return found[0] if found else ""
