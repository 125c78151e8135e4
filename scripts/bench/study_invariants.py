"""What must hold of a study whatever was killed: judges the kill campaign and tests/faults.

    at most one live gang per trial, at most one result told per trial
    no process of any of its gangs is left alive
    no completed measurement is lost or told otherwise, and the storage is sound

Trainers that put ``PROOF`` first and call ``alive()`` at every step say themselves when they
lived: neither the controller's word nor the supervisor's is needed for that.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from autotune.launchers.members import carriers
from autotune.study.codec import record_to_json
from autotune.study.paths import StudyPaths, read_json
from autotune.study.record import Study
from autotune.study.repair import damage
from autotune.study.storage import sqlite_path
from autotune.trial import TrialRecord

PROOF = """
import os, time
def alive():
    with open(os.environ["AUTOTUNE_TRIAL_DIR"] + "/alive.txt", "a") as proof:
        proof.write(f"{os.getpid()} {time.monotonic()}\\n")
alive()
"""


@dataclass
class Findings:
    """What is wrong with a study, in words; and its trials."""

    records: list[TrialRecord] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    told_twice: list[str] = field(default_factory=list)
    at_once: list[str] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    storage: str | None = None

    @property
    def wrong(self) -> list[str]:
        """All of it."""
        left = [f"process {pid} is left" for pid in self.left]
        damaged = [f"storage: {self.storage}"] if self.storage else []
        return [*self.lost, *self.told_twice, *self.at_once, *left, *damaged]


def examine(folder: Path, url: str | None = None, within_s: float = 15.0) -> Findings:
    """Look at a study that nobody runs; its last processes get a while to end."""
    study = Study.open(StudyPaths(folder), url)
    found = Findings(study.records())
    path = sqlite_path(study.url)
    found.storage = damage(path) if path else None
    tokens = {study.intent(record.number).token for record in found.records} - {""}
    study.close()
    for attempts in attempts_of(folder).values():
        told = {record.number: record for record in found.records}
        judge_attempts(attempts, told, found)
    searched = [record for record in found.records if record.kind == "search"]
    configs = Counter((record.config_hash, record.seed, record.fidelity) for record in searched)
    found.told_twice += [f"config {key} is two trials" for key, n in configs.items() if n > 1]
    found.left = left_alive(folder, tokens, within_s)
    return found


def attempts_of(folder: Path) -> dict[int, list[Path]]:
    """The folders of each trial's attempts, first to last."""
    found: dict[int, list[Path]] = {}
    for path in (folder / "trials").glob("[0-9]*"):
        found.setdefault(int(path.name.partition(".")[0]), []).append(path)
    for paths in found.values():
        paths.sort(key=lambda path: int(path.name.partition(".")[2] or 1))
    return found


def judge_attempts(attempts: list[Path], told: dict[int, TrialRecord], found: Findings) -> None:
    """What is wrong with the attempts of one trial."""
    number = int(attempts[0].name.partition(".")[0])
    results = [read_json(path / "result.json") for path in attempts]
    if sum(result is not None for result in results) > 1:
        found.told_twice.append(f"trial {number} has a result of two attempts")
    for result in filter(None, results):
        if number not in told or json.loads(json.dumps(record_to_json(told[number]))) != result:
            found.lost.append(f"trial {number}: its result on disk is not the one told")
    for path in attempts[:-1]:
        if completed(path) and not (path / "doubted.json").exists():
            found.lost.append(f"{path.name}: ran to its end, and was run again")
    lives = sorted(span for path in attempts for span in spans(path))
    for (_, last), (first, _) in pairwise(lives):
        if first < last:
            found.at_once.append(f"trial {number} had two gangs at once")


def completed(attempt: Path) -> bool:
    """Whether every rank of an attempt ended by itself with 0, as its exit record tells."""
    record = read_json(attempt / "exit.0.json")
    if record is None or record["ended_by"] or not record["ranks"]:
        return False
    return all(rank["code"] == 0 for rank in record["ranks"])


def spans(attempt: Path) -> list[tuple[float, float]]:
    """From when to when each process of an attempt told that it lived (monotonic seconds)."""
    path = attempt / "alive.txt"
    seen: dict[str, list[float]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        pid, _, at = line.partition(" ")
        seen.setdefault(pid, []).append(float(at))
    return [(min(times), max(times)) for times in seen.values()]


def left_alive(folder: Path, tokens: set[str], within_s: float = 15.0) -> list[int]:
    """Processes of the study's gangs that still live after a while."""
    written = [read_json(path) or {} for path in folder.glob("trials/*/gang.json")]
    every = {*tokens, *(str(spec["token"]) for spec in written if "token" in spec)}
    bound = time.monotonic() + within_s
    while True:
        alive = [pid for token in every for pid, _ in carriers(token)]
        if not alive or time.monotonic() > bound:
            return alive
        time.sleep(0.1)
