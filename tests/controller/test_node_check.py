"""The check of the nodes before the final, interrupted at its worst moments, and what it finds."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from autotune.controller import Controller, Options, prepare
from autotune.launchers import host
from autotune.launchers.local import Local
from autotune.study.paths import StudyPaths
from autotune.study.record import Study
from autotune.trial import GangStatus, Handle
from tests.controller.conftest import SPACE, Cli
from tests.faults.conftest import folder_of
from tests.launchers.gangs import log_text, wait_until

Start = Callable[..., "Popen[str]"]
LONG = 'import time\nprint("checking", flush=True)\ntime.sleep(120)\n'
QUICK = 'print(\'{"rank": 0, "kind": "cuda", "tflops": {"cuda:0": [700.0], "cuda:1": [690.0]}}\')\n'
ONE_CONFIG = SPACE.replace("[1, 2, 4]", "[1, 2]").replace(
    "[ok, trap_exit, trap_oom, trap_silent]", "[ok]"
)
RUN = ("run", "--space", "two.yaml", "--study", "s", "--sampler", "random")


@pytest.fixture
def two_gpus(cli: Cli) -> Cli:
    """A study on two GPUs, which are compared before its final by a program of the test's."""
    cluster = "cluster: {nodes: 1, gpus_per_node: 2, gpu: h100_80gb}\n"
    cli.write("two.yaml", ONE_CONFIG + cluster)
    (cli.folder / "runners" / "doctor").mkdir(parents=True)
    cli.write("runners/doctor/check.py", "")
    cli.write("runners/doctor/nodes.py", LONG)
    return cli


def token_of_check(cli: Cli) -> str:
    """The token of the check that runs now."""
    folder = folder_of(cli, "s") / "node_check"
    wait_until(lambda: "checking" in log_text(folder), 60.0)
    return str((host.read_object(str(folder / "gang.json")) or {})["token"])


def left_of(token: str) -> list[Any]:
    """Processes of a gang."""
    return list(host.marked(f"AUTOTUNE_TOKEN={token}"))


def test_a_check_that_was_cut_short_leaves_nothing_and_is_made_anew(
    two_gpus: Cli, started: Start
) -> None:
    """By Ctrl-C, which ends it, and by the controller's death, after which the next one does."""
    run = started(*RUN)
    interrupted = token_of_check(two_gpus)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130 and "matrix product" not in said, said
    assert left_of(interrupted) == []
    run = started("resume", "s")
    orphaned = wait_until(lambda: {token_of_check(two_gpus)} - {interrupted}, 60.0).pop()
    run.kill()
    run.communicate(timeout=60)
    assert left_of(orphaned) != []
    two_gpus.write("runners/doctor/nodes.py", QUICK)
    again = two_gpus("resume", "s").stderr
    assert "matrix product 690 to 700 TFLOP/s a device (worst round 690), none lags" in again
    assert left_of(orphaned) == []


def test_a_lease_lost_during_the_check_stops_it(two_gpus: Cli, started: Start) -> None:
    two_gpus.env["AUTOTUNE_LEASE_S"] = "1"
    stalled = started(*RUN)
    token = token_of_check(two_gpus)
    stalled.send_signal(signal.SIGSTOP)
    time.sleep(1.2)
    two_gpus.write("runners/doctor/nodes.py", QUICK)
    two_gpus("resume", "s")
    trials = two_gpus.json("status", "s")["trials"]
    stalled.send_signal(signal.SIGCONT)
    said = stalled.communicate(timeout=60)[1]
    assert stalled.returncode == 75 and "took over" in said, said
    assert "matrix product" not in said
    assert left_of(token) == []
    assert two_gpus.json("status", "s")["trials"] == trials


class TwoNodes(Local):
    """This machine under two names, a rank on each: which is left out can be seen."""

    name = "two_nodes"
    avoided: tuple[str, ...] = ()

    def poll(self, handle: Handle) -> GangStatus:
        """The gang's status, its ranks on nodes of their own."""
        status = super().poll(handle)
        exits = [dataclasses.replace(end, node=f"n{end.rank}") for end in status.exits]
        return dataclasses.replace(status, exits=tuple(exits), nodes=("n0", "n1"))

    def avoid(self, names: Sequence[str], needed: int) -> bool:
        """Note what should be left out."""
        self.avoided = tuple(names)
        return True


XID = """
import os, sys, time
if "." not in os.path.basename(os.environ["AUTOTUNE_TRIAL_DIR"]):  # the first attempt
    if os.environ["RANK"] == "1":
        print("NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.", flush=True)
        sys.exit(1)
    time.sleep(60)
for step in range(6):
    print("tokens/s: 100", flush=True)
"""


def test_of_two_nodes_only_the_one_that_failed_is_left_out(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOTUNE_HOME", cli.env["AUTOTUNE_HOME"])
    monkeypatch.chdir(cli.folder)
    cli.write("train.py", XID)
    two = "cluster: {nodes: 1, gpus_per_node: 2}\noptions: {per: rank}\n"
    one = ONE_CONFIG.replace("[1, 2]", "[1]").replace("finalists: 2", "finalists: 0")
    cli.write("two.yaml", one.replace("min_steps: 3", "min_steps: 3, stop_early: false") + two)
    setting = prepare("two.yaml", (), Options(sampler="random"), simulate=False)
    launcher = TwoNodes({"grace_s": 1.0, "peer_grace_s": 0.5})
    setting = dataclasses.replace(setting, launcher=launcher)
    settings = {"options": setting.options.to_json()}
    study = Study.create(StudyPaths.named("s"), setting.space.to_yaml(), settings)
    study.hold()
    found = Controller(study, setting).run()
    aside = study.noted("nodes_aside")
    study.close()
    assert found.winner is not None
    assert launcher.avoided == ("n1",) and list(aside) == ["n1"] and "Xid" in aside["n1"]
