"""As many gangs side by side as fit: counted by each place, used by `--parallel auto`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from autotune.launchers import get_launcher, room_for
from autotune.launchers._room import gangs_that_fit, slots
from autotune.trial import Job
from tests.controller.conftest import Cli, cli
from tests.faults.conftest import folder_of, slow

__all__ = ["cli", "slow"]


@pytest.mark.parametrize(
    ("slots_of_nodes", "nodes", "fits"),
    [
        ([2, 2, 2], 1, 6),
        ([1, 1, 1, 1], 2, 2),
        ([4, 1], 2, 1),
        ([2, 2, 2], 2, 3),
        ([1, 1], 3, 0),
        ([], 1, 0),
    ],
)
def test_no_gang_needs_one_node_twice(slots_of_nodes: list[int], nodes: int, fits: int) -> None:
    assert gangs_that_fit(slots_of_nodes, nodes) == fits


def test_a_node_has_room_for_what_it_is_shortest_of() -> None:
    assert slots({"CPU": 16.0, "GPU": 8.0, "memory": 1.0}, {"CPU": 1.0, "GPU": 3.0}) == 2
    assert slots({"CPU": 16.0}, {"CPU": 1.0, "GPU": 1.0}) == 0
    assert slots({"CPU": 16.0}, {"CPU": 0.0}) == 0


def test_this_machine_divides_its_gpus() -> None:
    launcher = get_launcher("local", {"gpus": [0, 1, 2, 3, 4]})
    assert room_for(launcher, Job(("true",), gpus_per_node=2)) == 2
    assert room_for(launcher, Job(("true",), gpus_per_node=0)) == 1
    assert room_for(launcher, Job(("true",), gpus_per_node=8)) == 1, "it says itself what lacks"


def test_slurm_counts_the_nodes_of_its_partition(engine_options: Callable[[str], Any]) -> None:
    launcher = get_launcher("slurm", engine_options("slurm"))
    assert room_for(launcher, Job(("true",), nodes=1)) == 2
    assert room_for(launcher, Job(("true",), nodes=2)) == 1


def test_ray_counts_what_its_nodes_have(engine_options: Callable[[str], Any]) -> None:
    launcher: Any = get_launcher("ray", engine_options("ray"))
    assert room_for(launcher, Job(("true",), nodes=1, gpus_per_node=4)) == 4
    assert room_for(launcher, Job(("true",), nodes=2, gpus_per_node=4)) == 2
    names = [node["node_id"] for node in launcher._bridge.ask("nodes")["nodes"]]
    assert launcher.avoid(names[:1], 1)
    assert room_for(launcher, Job(("true",), nodes=1, gpus_per_node=4)) == 2


def test_auto_runs_as_many_as_there_are_gpus_for(slow: Cli) -> None:
    space = (slow.folder / "slow.yaml").read_text()
    space += "cluster: {nodes: 1, gpus_per_node: 1}\nlauncher_options: {gpus: [0, 1, 2]}\n"
    slow.write("slow.yaml", space.replace("trials: 6", "trials: 5"))
    words = ("--space", "slow.yaml", "--study", "s", "--sampler", "random", "--no-simulate")
    slow("run", *words, "--parallel", "auto")
    assert len(slow.json("status", "s")["trials"]) == 5
    gangs = [
        json.loads(path.read_text()) for path in folder_of(slow, "s").glob("trials/*/gang.json")
    ]
    assert {tuple(gang["gpus"]) for gang in gangs} == {("0",), ("1",), ("2",)}
    said = slow("run", *words, "--parallel", "none", expect=2).stderr
    assert "expected a number of trials above 0, or auto" in said
