"""What supervisors leave in a trial's folder, read: who started, how it ended, GPUs in trouble."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.errors import InfrastructureError
from autotune.launchers import host
from autotune.launchers.nvml import SLOWDOWNS
from autotune.trial import GangStatus, RankExit

MOST_GPUS = 16
"""GPUs kept in a trial's record, doubtful ones first; exit records on disk have all of them."""
DOUBTFUL_SHARE = 0.05


def told_spec(trial_dir: Path | str) -> dict[str, Any]:
    """The gang's description as it was written; InfrastructureError when it is gone."""
    path = Path(trial_dir) / "gang.json"
    spec = host.read_object(str(path))
    if spec is None:
        raise InfrastructureError(f"{path}: missing or damaged; its gang cannot be followed.")
    return spec


def told_start(trial_dir: Path, token: str) -> dict[str, Any] | None:
    """What part 0's supervisor told when it started; None where this gang's has not."""
    told = host.read_object(str(trial_dir / "supervisor.0.json"))
    return told if told and told.get("token") == token else None


def read_exits(trial_dir: Path, token: str) -> list[dict[str, Any]] | None:
    """The exit records of all parts, by index; None until every one of them stands."""
    spec = host.read_object(str(trial_dir / "gang.json"))
    if spec is None or spec.get("token") != token:
        return None
    records = []
    for index in range(int(spec["parts"])):
        record = host.read_object(str(trial_dir / f"exit.{index}.json"))
        if record is None or record.get("token") != token or not sound(record):
            return None
        records.append(record)
    return records


def sound(record: dict[str, Any]) -> bool:
    """Whether a record can be read as one: a damaged one counts as none."""
    try:
        status_of([record])
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return True


def status_of(records: list[dict[str, Any]]) -> GangStatus:
    """One gang's status from its parts' exit records; lost where no rank got to its start."""
    exits = []
    for record in records:
        for rank in record["ranks"]:
            exits.append(RankExit(rank["rank"], rank["code"], rank["signal"], record["host"]))
    gpus = [{"node": record["host"], **gpu} for record in records for gpu in record["gpus"]]
    peaks = [gpu["peak_gib"] for gpu in gpus if gpu["peak_gib"] > 0.0]
    doubts = [f"{where(gpu)} {trouble}" for gpu in gpus for trouble in gpu_troubles(gpu)]
    reasons = {record["ended_by"] for record in records}
    failed = any(record["failed"] for record in records)
    return GangStatus(
        state="exited" if (exits or not failed) and "abandoned" not in reasons else "lost",
        exits=tuple(sorted(exits, key=lambda entry: entry.rank)),
        deadline_hit="deadline" in reasons,
        oom_kill=any(record["oom_kill"] for record in records),
        cancelled="cancel" in reasons or ("signal" in reasons and not failed),
        detail="; ".join(describe(record) for record in records if describe(record)),
        nodes=tuple(dict.fromkeys(record["host"] for record in records)),
        peak_memory_gib=max(peaks) if peaks else None,
        gpu_seconds=sum(record["gpu_seconds"] for record in records),
        gpus=tuple(sorted(gpus, key=lambda gpu: not gpu_troubles(gpu))[:MOST_GPUS]),
        doubts=tuple(doubts[:MOST_GPUS]),
        unfit={
            record["host"]: f"processes that could not be killed: {record['survivors']}"
            for record in records
            if record["survivors"]
        },
    )


def with_oom(status: GangStatus, oom_kill: bool) -> GangStatus:
    """The status, the memory killer noted where the engine saw it."""
    return dataclasses.replace(status, oom_kill=True) if oom_kill else status


def describe(record: Mapping[str, Any]) -> str:
    """What a person should know of one part's end; empty when it ended well."""
    notes = []
    if record["error"]:
        notes.append(str(record["error"]))
    if record["first_failed"] is not None:
        first = {rank["rank"]: rank for rank in record["ranks"]}[record["first_failed"]]
        how = f"signal {first['signal']}" if first["signal"] else f"exit code {first['code']}"
        notes.append(f"rank {first['rank']} failed first ({how})")
    if record["ended_by"] == "signal":
        notes.append("the supervisor was asked to end by a signal")
    if record["ended_by"] == "abandoned":
        notes.append("the node's keeper vanished")
    if record["survivors"]:
        notes.append(f"processes that could not be killed: {record['survivors']}")
    for gpu in record["gpus"]:
        notes += [f"GPU {gpu['index']} {trouble}" for trouble in gpu_troubles(gpu)]
    return f"{record['host']}: {', '.join(notes)}" if notes else ""


def where(gpu: Mapping[str, Any]) -> str:
    """A GPU for a person to find."""
    return f"GPU {gpu['index']} of {gpu['node']}"


def gpu_troubles(gpu: Mapping[str, Any]) -> list[str]:
    """What makes a measurement on a GPU doubtful, by what was seen of it while the gang ran.

    A throttle reason seen in less than a twentieth of the samples is no trouble.
    """
    troubles = []
    before, after = (gpu.get(key, {}).get("ecc_uncorrected") for key in ("before", "after"))
    if before is not None and after is not None and after > before:
        troubles.append(f"had {after - before} uncorrectable ECC errors")
    slow = [reason for reason in gpu.get("throttle", ()) if reason in SLOWDOWNS]
    if slow and gpu.get("throttled_share", 1.0) >= DOUBTFUL_SHARE:
        troubles.append(f"was throttled ({' '.join(slow)})")
    if gpu.get("strangers"):
        troubles.append(f"was shared with pids {gpu['strangers']}")
    return troubles
