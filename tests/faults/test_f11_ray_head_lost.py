"""F11: the Ray head is lost; the controller says so and stops, and resume goes on elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import Popen
from typing import Any

import pytest

from tests.controller.conftest import Cli
from tests.engines import ray as engine
from tests.faults.conftest import assert_whole, check_invariants, folder_of, leftovers
from tests.faults.ray_cluster import RUN, WORKER, attempt_running, head, know

__all__ = ["head"]
Start = Callable[..., "Popen[str]"]


@pytest.mark.slow
def test_f11_the_controller_stops_and_resume_goes_on(slow: Cli, started: Start, head: Any) -> None:
    hold = slow.write("hold", "")
    head.add_node(**WORKER)
    run = started(*RUN, "--launcher-option", "head_grace_s=2")
    attempt_running(slow, 1)
    head.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
    said = run.communicate(timeout=120)[1]
    assert run.returncode == 3, said
    assert "the Ray cluster" in said and "autotune resume" in said and "Traceback" not in said
    assert leftovers(folder_of(slow, "s"), 60.0) == []
    hold.unlink()
    slow("resume", "s", expect=3)
    with engine.cluster(nodes=1, gpus=1, num_cpus=1) as another:
        know(slow, another)
        slow("resume", "s")
    assert_whole(check_invariants(slow, "s"))
