"""Nodes are measured against each other before the final, and left out when they are unfit."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from autotune.controller.nodes import compare
from autotune.launchers import get_launcher
from autotune.launchers.host import free_port
from tests.controller.conftest import Cli
from tests.launchers.gangs import need

PROGRAM = Path(__file__).resolve().parents[2] / "runners" / "doctor" / "nodes.py"


def report(node: str, *rates: float, link: float | None = None) -> dict[str, Any]:
    tflops = {f"cuda:{index}": [rate] * 12 for index, rate in enumerate(rates)}
    links = [link] * 12 if link else []
    return {"node": node, "kind": "cuda", "tflops": tflops, "exchange_gb_per_s": links}


def test_a_slow_device_names_its_node() -> None:
    found = compare([report("a", 700, 710), report("b", 705, 400), report("c", 690, 700)])
    assert list(found["lagging"]) == ["b"]
    assert found["lagging"]["b"] == "cuda:1 400 of 700 TFLOP/s (400 to 400 TFLOP/s)"
    assert found["tflops"] == [400, 710]


def test_of_two_nodes_the_slower_one_lags() -> None:
    assert list(compare([report("a", 700), report("b", 400)])["lagging"]) == ["b"]
    assert compare([report("a", 700), report("b", 640)])["lagging"] == {}


def test_a_device_that_is_slow_only_at_times_is_named_once_it_is_often_enough() -> None:
    uneven = report("b", 700)
    uneven["tflops"]["cuda:0"] = [700.0] * 10 + [400.0] * 2
    found = compare([report("a", 700), uneven])
    assert (found["lagging"], found["tflops_worst_round"]) == ({}, 400.0)
    uneven["tflops"]["cuda:0"] = [700.0] * 9 + [400.0] * 3
    why = "cuda:0 in 3 of 12 rounds below 85% of 700 TFLOP/s (400 to 700 TFLOP/s)"
    assert compare([report("a", 700), uneven])["lagging"] == {"b": why}


def test_a_slow_link_takes_three_nodes_to_name() -> None:
    slow = [report("a", 700, link=40.0), report("b", 700, link=4.0)]
    assert compare(slow)["lagging"] == {}
    found = compare([*slow, report("c", 700, link=38.0)])
    assert found["lagging"] == {"b": "its network 4 of 38 GB/s (4 to 4 GB/s)"}


def test_a_node_that_said_nothing_is_an_error_and_no_laggard() -> None:
    found = compare([report("a", 700), {"node": "b", "error": "said nothing"}])
    assert (found["errors"], found["lagging"]) == (["b: said nothing"], {})


def test_without_pytorch_the_check_says_so() -> None:
    argv = [sys.executable, "-I", "-S", str(PROGRAM)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert "PyTorch cannot be imported" in json.loads(done.stdout)["error"]


def test_mpi_leaves_hosts_out_while_enough_remain(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("a slots=8\nb.cluster slots=8  # rack 2\n\nc slots=8\n")
    mpi: Any = get_launcher("mpi", {"hostfile": str(tmp_path / "hosts")})
    assert not mpi.avoid(["b"], 3)
    assert not mpi.avoid(["stranger"], 1)
    assert mpi.avoid(["b"], 2)
    assert mpi.hosts == ("a:8", "c:8")


IMPORTED = f"""
import runpy, torch
print("up", flush=True)
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""


def slow_down(process: subprocess.Popen[str]) -> None:
    """Stop a process again and again, in the midst of some rounds and not of others."""
    while process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.2)


@pytest.mark.slow
def test_of_two_processes_the_one_that_lags_at_times_is_named() -> None:
    if importlib.util.find_spec("torch") is None:
        need("not installed: torch")
    place = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", IMPORTED],
            env={**os.environ, **place, "NODE_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert started[1].stdout and started[1].stdout.readline() == "up\n"
    threading.Thread(target=slow_down, args=(started[1],), daemon=True).start()
    said = [json.loads(p.communicate(timeout=200)[0].removeprefix("up\n")) for p in started]
    for entry in said:
        measured = (
            entry["all_reduce_gb_per_s"],
            entry["exchange_gb_per_s"],
            *entry["tflops"].values(),
        )
        assert all(len(rounds) == 12 and min(rounds) > 0 for rounds in measured), entry
    assert [entry["rank"] for entry in said] == [0, 1]
    found = compare([{**entry, "node": f"n{entry['rank']}"} for entry in said])
    assert list(found["lagging"]) == ["n1"], said


def test_what_was_set_aside_is_left_out_later_until_it_is_released(cli: Cli) -> None:
    words = ["--set", "parameters.mode.values=[ok]", "--set", "parameters.batch.values=[1]"]
    cli("run", "--space", "job.yaml", "--study", "one", *words, expect=None)
    code = (
        "from autotune.study.record import Study; from autotune.study.paths import StudyPaths; "
        "s = Study.open(StudyPaths.named('one')); s.note('nodes_aside', {'n1': 'lags'}); s.close()"
    )
    subprocess.run([sys.executable, "-c", code], env=cli.env, check=True)
    assert "n1" in cli("resume", "one", "--release", "n2", expect=2).stderr
    assert "n1 should be left out" in cli("resume", "one", expect=None).stderr
    assert "left out" not in cli("resume", "one", "--release", "n1", expect=None).stderr
