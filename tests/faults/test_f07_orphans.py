"""F07: a child that double-forked into its own session is found: token, ancestry, control group."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotune.launchers import cgroup, end_gang, get_launcher, host
from autotune.trial import Handle
from tests.launchers.gangs import Gangs, actor_job, log_text, need, opened, wait_until


def orphan_of(trial_dir: Path) -> int:
    """The orphan's pid, once it has told it."""
    return int(wait_until(lambda: re.search(r"orphan (\d+)", log_text(trial_dir)))[1])


@pytest.mark.parametrize("kind", ["orphan", "orphan=bare"])
def test_f07_left_behind_by_a_rank_that_ended(tmp_path: Path, kind: str) -> None:
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job(kind, "say=done"))
        status = gangs.finish(handle)
        assert status.exits[0].code == 0
        pid = orphan_of(Path(handle["trial_dir"]))
        assert host.process_stat(pid) is None
        assert host.read_object(f"{handle['trial_dir']}/exit.0.json")["leftovers"] == 1


@pytest.mark.parametrize("kind", ["orphan", "orphan=bare"])
def test_f07_ended_with_a_cancelled_gang(tmp_path: Path, kind: str) -> None:
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job(kind, "sleep=60"))
        pid = orphan_of(Path(handle["trial_dir"]))
        assert host.process_stat(pid) is not None
        assert os.getsid(pid) != handle["pid"]
        assert end_gang(gangs.launcher, handle, 0.3) == []
        assert host.process_stat(pid) is None


def test_f07_found_by_token_when_the_supervisor_was_killed(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job("orphan", "sleep=60"))
        pid = orphan_of(Path(handle["trial_dir"]))
        os.kill(handle["pid"], signal.SIGKILL)
        assert gangs.finish(handle).state == "lost"
        assert any(str(pid) in text for text in gangs.launcher.survivors(handle))
        assert end_gang(gangs.launcher, handle, 0.3) == []
        stat = host.process_stat(pid)  # reaping it is now up to this machine's init
        assert stat is None or stat[0] in "ZX"


@pytest.fixture
def hidden(tmp_path: Path) -> Iterator[tuple[Gangs, Handle, int]]:
    """A gang whose supervisor was killed, and its orphan that cleared its environment."""
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job("orphan=bare", "sleep=60"))
        pid = orphan_of(Path(handle["trial_dir"]))
        start_time = (host.process_stat(pid) or ("", 0, 0))[2]
        os.kill(handle["pid"], signal.SIGKILL)
        assert gangs.finish(handle).state == "lost"
        wait_until(lambda: not host.marked(f"AUTOTUNE_TOKEN={handle['token']}"))
        yield gangs, handle, pid
        host.send_signal(pid, start_time, signal.SIGKILL)


def group_of(handle: Handle) -> str:
    """The control group that part 0 told; empty where the kernel grants none."""
    told = host.read_object(f"{handle['trial_dir']}/supervisor.0.json")
    assert told is not None
    return str(told["cgroup"])


def test_f07_one_that_hides_from_both_is_found_in_its_control_group(
    hidden: tuple[Gangs, Handle, int],
) -> None:
    _, handle, pid = hidden
    group = group_of(handle)
    if not group:
        need("no control group can be made here")
    later = get_launcher("local")  # another controller, which knows the handle alone
    assert [text.split()[0] for text in later.survivors(handle)] == [str(pid)]
    assert end_gang(later, handle, 0.3) == []
    stat = host.process_stat(pid)
    assert stat is None or stat[0] in "ZX"
    assert not Path(group).exists(), "an empty group is removed"


def test_f07_without_a_control_group_that_one_is_not_found(
    hidden: tuple[Gangs, Handle, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the threat model says of such hosts; token and ancestry go on to serve them."""
    gangs, handle, pid = hidden
    monkeypatch.setattr(cgroup, "root", lambda: "")
    assert cgroup.create("token", 0) == ""
    assert gangs.launcher.survivors(handle) == [] and host.process_stat(pid) is not None


@pytest.mark.parametrize("words", [("say=x",), ("orphan=bare", "say=x")])
def test_f07_no_control_group_outlives_its_gang(tmp_path: Path, words: tuple[str, ...]) -> None:
    with opened("local", tmp_path) as gangs:
        handle = gangs.start(actor_job(*words))
        gangs.finish(handle)
        assert cgroup.find(handle["token"]) == []
        assert not group_of(handle) or not Path(group_of(handle)).exists()
