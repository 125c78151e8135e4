"""Slurm job arrays: what starts at once is one request, and each element is a gang of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotune.launchers import Request, _slurm_array, _slurm_commands, submit_all
from tests.controller.conftest import Cli, cli, started
from tests.faults.conftest import assert_whole, check_invariants, folder_of, slow
from tests.launchers.gangs import Gangs, actor_job, log_text, wait_until
from tests.launchers.test_contract import places
from tests.launchers.test_slurm import gangs, options

__all__ = ["cli", "gangs", "options", "slow", "started"]


def together(gangs: Gangs, *jobs: Any) -> list[Any]:
    """Handles, or errors, of several jobs asked for at once."""
    first = len(gangs.started)
    requests = [
        Request(job, gangs.folder / f"trial-{first + k}", uuid.uuid4().hex)
        for k, job in enumerate(jobs)
    ]
    results = submit_all(gangs.launcher, requests)
    gangs.started += [result for result in results if isinstance(result, dict)]
    return results


def test_three_gangs_are_one_array_of_elements(gangs: Gangs) -> None:
    names = "env=RANK,SLURM_ARRAY_JOB_ID,SLURM_ARRAY_TASK_ID,AUTOTUNE_TOKEN"
    handles = together(
        gangs, actor_job(names), actor_job(names, "exit=6"), actor_job(names, time_limit_s=50.0)
    )
    assert [h["job_id"].partition("_")[2] for h in handles] == ["0", "1", "2"]
    assert [gangs.finish(h).exits[0].code for h in handles] == [0, 6, 0]
    told = [places(Path(h["trial_dir"])) for h in handles]
    assert [t["SLURM_ARRAY_TASK_ID"] for t in told] == ["0", "1", "2"]
    assert len({t["SLURM_ARRAY_JOB_ID"] for t in told}) == 1
    assert [t["AUTOTUNE_TOKEN"] for t in told] == [h["token"] for h in handles]
    assert [gangs.launcher.survivors(h) for h in handles] == [[], [], []]


def test_one_element_is_cancelled_the_others_go_on(gangs: Gangs) -> None:
    deaf = actor_job("say=up", "sleep=60")
    first, second, queued = together(gangs, deaf, deaf, deaf)
    for handle in (first, second):
        wait_until(lambda h=handle: "up" in log_text(Path(h["trial_dir"])))
    assert gangs.launcher.poll(queued).state == "pending"
    for handle in (queued, first):
        found = gangs.launcher.find(Path(handle["trial_dir"]), handle["token"])
        assert found and found["mode"] == "batch"
    for handle in (queued, first):
        gangs.launcher.cancel(handle, 0.5)
        status = gangs.finish(handle)
        assert status.cancelled, status
    assert gangs.launcher.poll(second).state == "running"


def test_other_shapes_are_asked_for_apart(gangs: Gangs) -> None:
    small = actor_job("say=x")
    wide, one, two = together(gangs, actor_job("say=x", per="node", nodes=2), small, small)
    assert "_" not in wide["job_id"]
    assert one["job_id"].partition("_")[0] == two["job_id"].partition("_")[0] != wide["job_id"]
    assert [gangs.finish(h).state for h in (wide, one, two)] == ["exited"] * 3


def test_a_slurm_that_takes_no_arrays_gets_jobs(gangs: Gangs, monkeypatch) -> None:
    monkeypatch.setattr(_slurm_array.Array, "arguments", lambda array: ["--array=0-99999999"])
    handles = together(gangs, actor_job("say=x"), actor_job("exit=3"))
    assert all(h["job_id"].isdigit() for h in handles)
    assert [gangs.finish(h).exits[0].code for h in handles] == [0, 3]


def test_what_slurm_forgot_is_found_by_what_it_left(gangs: Gangs, monkeypatch) -> None:
    (handle,) = together(gangs, actor_job("exit=6"))
    gangs.finish(handle)
    monkeypatch.setattr(_slurm_commands, "job_named", lambda name: None)
    monkeypatch.setattr(_slurm_commands, "show_job", lambda job_id: {})
    found = gangs.launcher.find(Path(handle["trial_dir"]), handle["token"])
    assert found and gangs.launcher.poll(found).exits[0].code == 6
    assert gangs.launcher.find(Path(handle["trial_dir"]), "another") is None


@pytest.mark.slow
def test_a_controller_that_dies_after_sbatch_finds_its_elements(
    slow: Cli, started: Callable[..., Any], options: dict[str, Any]
) -> None:
    words = ("--launcher", "slurm", "--launcher-option", "partition=main", "--parallel", "2")
    run = ("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random", *words)
    started(*run, AUTOTUNE_FAILPOINT="after_spawn@2").communicate(timeout=120)
    folder = folder_of(slow, "s")
    assert len(list(folder.glob("trials/*/array.json"))) >= 2
    said = slow("resume", "s").stderr
    assert said.count("its gang was adopted") == 2, said
    trials = check_invariants(slow, "s")
    assert_whole(trials)
    assert len(list(folder.glob("trials/*"))) == len(trials), "no trial ran twice"
