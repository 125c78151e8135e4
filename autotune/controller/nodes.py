"""The nodes of a study: checked before the final, and set aside when they are unfit.

Finalists are compared by a few per cent, so a node that lags would decide between them. What is
set aside is kept in the study, and stays so until `autotune resume STUDY --release NODE`.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.content import find_content
from autotune.controller.events import Listener
from autotune.controller.one_off import run_job
from autotune.controller.setting import Setting
from autotune.controller.watch import Watch
from autotune.errors import BadInput, InfrastructureError
from autotune.launchers import end_gang
from autotune.launchers.host import read_object
from autotune.launchers.nvml import wait_released
from autotune.logs.tail import TrialLogs
from autotune.study.record import Study
from autotune.trial import GangStatus, Job, Outcome, TrialRecord

CHECK_NOTE, ASIDE_NOTE = "node_check", "nodes_aside"
CHECK_LIMIT_S = 180.0
GPU_RELEASE_BOUND_S = 30.0
HARDWARE = re.compile(r"\bXid\b|\bECC\b|fallen off the bus", re.IGNORECASE)
LAGS_BELOW = {"cuda": 0.85, "cpu": 0.5}
"""Share of the gang's median below which a device lags; a CPU's neighbours make it uneven."""
LINK_LAGS_BELOW = 0.5
SLOW_AT_TIMES = 0.25
"""Share of its rounds in which a device or link may lag before it does so as a whole."""
FILES = ("nodes.py", "check.py")


class Nodes:
    """What one controller knows of the nodes of its study."""

    def __init__(self, study: Study, setting: Setting, listener: Listener) -> None:
        self._study = study
        self._setting = setting
        self._listener = listener
        self._checked = False

    # -- set aside

    def recall(self) -> None:
        """Leave out what was set aside before, in an earlier session too."""
        aside = self._study.noted(ASIDE_NOTE) or {}
        if aside and not self._avoid(list(aside)):
            self._listener.message(
                f"{', '.join(aside)} should be left out, but this launcher cannot, or too few "
                f"nodes would remain. `autotune resume {self._study.name} --release all` says "
                "that they are mended."
            )

    def set_aside(self, names: Sequence[str], why: str) -> bool:
        """Have no further gang run there; False where the launcher cannot leave them out."""
        aside = dict(self._study.noted(ASIDE_NOTE) or {})
        aside.update(dict.fromkeys(names, why))
        if not names or not self._avoid(list(aside)):
            return False
        self._study.note(ASIDE_NOTE, aside)
        self._listener.message(
            f"{', '.join(names)} set aside: {why}. Once mended: `autotune resume "
            f"{self._study.name} --release {names[0]}`"
        )
        return True

    def _avoid(self, names: Sequence[str]) -> bool:
        avoid = getattr(self._setting.launcher, "avoid", None)
        needed = self._setting.baseline_job().nodes
        return bool(avoid is not None and avoid(names, needed))

    # -- checked

    def check_once(self, meanwhile: Callable[[], None]) -> None:
        """Measure all nodes of a gang against each other, say which lag, leave those out.

        One device has nobody to be compared with, and simulated ones have no speed. A check
        that cannot be made is said and stops nothing. ``meanwhile`` may raise to end it.
        """
        if self._checked or self._setting.options.simulated:
            return
        self._checked = True
        job = check_job(self._setting)
        if job is None:
            return
        folder = self._study.paths.folder / CHECK_NOTE
        self._end_earlier(folder)
        self._listener.message("checks the nodes before the final")
        try:
            status = run_job(self._setting.launcher, job, folder, meanwhile)
            meanwhile()  # a controller that was away meanwhile must not note what it finds
        except (BadInput, InfrastructureError) as error:
            self._listener.message(f"nodes were not checked before the final: {error}")
            return
        reports = _reports(folder, status)
        found = compare(reports)
        self._study.note(CHECK_NOTE, {**found, "reports": reports})
        self._listener.message(tell(found, status))
        for node, why in found["lagging"].items():
            if not self.set_aside([node], f"it lags ({why})"):
                self._listener.message(
                    f"{node} cannot be left out by this launcher, or no other would remain: the "
                    "final runs on it all the same"
                )

    def _end_earlier(self, folder: Path) -> None:
        """A check of a controller that died meanwhile must not run beside the final."""
        spec = read_object(str(folder / "gang.json"))
        handle = self._setting.launcher.find(folder, str(spec.get("token"))) if spec else None
        if handle is not None:
            end_gang(self._setting.launcher, handle, 1.0)
        shutil.rmtree(folder, ignore_errors=True)


def unfit_nodes(watch: Watch, record: TrialRecord, alone: bool) -> tuple[Sequence[str], str]:
    """On which of a gang's nodes nothing more may run, and why (empty when they are fine).

    All of them, where it is not known which one failed. ``alone``: no other gang may be what
    holds this host's GPUs.
    """
    nodes = watch.status.nodes or record.nodes
    if watch.survivors:
        told = list(watch.status.unfit)
        return told or nodes, "processes would not die: " + "; ".join(watch.survivors[:5])
    if record.outcome is Outcome.INFRA and HARDWARE.search(record.outcome_reason):
        return watch.nodes_that_told("gpu_hw") or nodes, record.outcome_reason
    held = wait_released(watch.gpus_before, GPU_RELEASE_BOUND_S) if alone else []
    return nodes, "; ".join(held)


def release_nodes(study: Study, names: Sequence[str]) -> None:
    """Let gangs run on nodes again; ``all``: on every one. BadInput names those set aside."""
    aside = dict(study.noted(ASIDE_NOTE) or {})
    for name in names:
        if name != "all" and name not in aside:
            raise BadInput.unknown("node set aside", name, list(aside), study.name)
    kept = {} if "all" in names else {n: why for n, why in aside.items() if n not in names}
    study.note(ASIDE_NOTE, kept)


def check_job(setting: Setting) -> Job | None:
    """The check in the place of a trial: its nodes, GPUs and environment; None for one device."""
    trial = setting.baseline_job()
    hardware = setting.space.cluster.hardware
    gpus = 0 if hardware is None or hardware.vendor == "cpu" else trial.gpus_per_node
    if trial.nodes < 2 and gpus < 2:
        return None
    files = {}
    for name in FILES:
        found = find_content("runners", f"doctor/{name}")
        if found is None:
            raise BadInput(f"runners/doctor/{name} was not found; reinstall autotune.")
        files[name] = Path(str(found)).read_text(encoding="utf-8")
    return Job(
        argv=(setting.options.python, FILES[0]),
        env=trial.env,
        files=files,
        per="rank" if trial.per == "rank" else "node",
        nodes=trial.nodes,
        gpus_per_node=trial.gpus_per_node,
        time_limit_s=CHECK_LIMIT_S,
    )


def _reports(folder: Path, status: GangStatus) -> list[dict[str, Any]]:
    """What each process said, with the node it ran on; one that said nothing is an error."""
    said: dict[int, dict[str, Any]] = {}
    last: dict[int, str] = {}
    for rank, _arrival_s, text in TrialLogs(folder).drain():
        last[rank] = text.decode("utf-8", "replace")
        if last[rank].startswith("{"):
            said[rank] = json.loads(last[rank])
    return [
        {"error": last.get(entry.rank, "said nothing"), **said.get(entry.rank, {}),
         "node": entry.node}
        if entry.rank not in said
        else {**said[entry.rank], "node": entry.node}
        for entry in status.exits
    ]  # fmt: skip


def compare(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Ranges of the figures, who lags by how much, and what went wrong.

    A device lags below a share of the gang's upper median, so that of two the slower one does; a
    node's link below half of what the others reach, which takes three to tell whose it is. Either
    does so in the median of its rounds, or at times.
    """
    devices = [
        (report["node"], name, rounds, LAGS_BELOW[str(report["kind"])])
        for report in reports
        for name, rounds in report.get("tflops", {}).items()
    ]
    links = [
        (report["node"], "its network", report["exchange_gb_per_s"], LINK_LAGS_BELOW)
        for report in reports
        if report.get("exchange_gb_per_s")
    ]
    lagging = laggards(links, "GB/s") if len(links) > 2 else {}
    lagging |= laggards(devices, "TFLOP/s")
    medians = [statistics.median(rounds) for _, _, rounds, _ in devices]
    reduced = [r["all_reduce_gb_per_s"] for r in reports if r.get("all_reduce_gb_per_s")]
    return {
        "tflops": [min(medians), max(medians)] if medians else None,
        "tflops_worst_round": min((min(rounds) for _, _, rounds, _ in devices), default=None),
        "all_reduce_gb_per_s": min(map(statistics.median, reduced), default=None),
        "all_reduce_worst_round": min(map(min, reduced), default=None),
        "lagging": lagging,
        "errors": list(
            dict.fromkeys(f"{r['node']}: {r['error']}" for r in reports if "error" in r)
        ),
    }


def laggards(parts: Sequence[tuple[str, str, list[float], float]], unit: str) -> dict[str, str]:
    """Nodes that lag, and why. A part: its node, what of it, its rounds, the least share."""
    medians = [statistics.median(rounds) for _, _, rounds, _ in parts]
    usual = statistics.median_high(medians) if medians else 0.0
    found: dict[str, str] = {}
    for node, name, rounds, share in parts:
        rate = statistics.median(rounds)
        slow = sum(entry < share * usual for entry in rounds)
        worst = f"{min(rounds):.3g} to {max(rounds):.3g} {unit}"
        if rate < share * usual:
            found.setdefault(node, f"{name} {rate:.3g} of {usual:.3g} {unit} ({worst})")
        elif slow >= SLOW_AT_TIMES * len(rounds):
            at_times = f"in {slow} of {len(rounds)} rounds below {share:.0%} of {usual:.3g} {unit}"
            found.setdefault(node, f"{name} {at_times} ({worst})")
    return found


def tell(found: Mapping[str, Any], status: GangStatus) -> str:
    """The check in one sentence."""
    parts = [f"{len(status.nodes)} node{'s' * (len(status.nodes) != 1)}"]
    if found["tflops"]:
        low, high = found["tflops"]
        worst = found["tflops_worst_round"]
        parts.append(
            f"matrix product {low:.3g} to {high:.3g} TFLOP/s a device (worst round {worst:.3g})"
        )
    if found["all_reduce_gb_per_s"]:
        rate, worst = found["all_reduce_gb_per_s"], found["all_reduce_worst_round"]
        parts.append(f"all-reduce {rate:.3g} GB/s (worst round {worst:.3g})")
    if found["lagging"]:
        parts += [f"{node} lags: {why}" for node, why in found["lagging"].items()]
    elif found["tflops"] and not found["errors"]:
        parts.append("none lags")
    if not found["tflops"]:
        parts.append("nothing was measured")
    parts += [f"not all could be measured: {error}" for error in found["errors"][:2]]
    if status.state == "lost" or status.deadline_hit:
        parts.append(status.detail or "it did not end in time")
    return "check of the nodes before the final: " + ", ".join(parts)
