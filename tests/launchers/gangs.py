"""What tests of gangs share: a program to start, a place to start it, proof that it is gone."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from autotune.launchers import Launcher, end_gang, get_launcher, host
from autotune.trial import GangStatus, Handle, Job

ACTOR = Path(__file__).with_name("actor.py")
ENGINES = Path(__file__).parent.parent / "engines"


def actor_job(*words: str, **fields: Any) -> Job:
    """A job that runs the actor with these words."""
    argv = (sys.executable, "-S", str(ACTOR), *words)
    return Job(argv=argv, **{"time_limit_s": 60.0, **fields})


def log_text(trial_dir: Path, rank: int = 0) -> str:
    """All that stands in a rank's segments, stamps removed."""
    lines = []
    for path in sorted((trial_dir / "logs").glob(f"rank{rank}.*.log")):
        for line in path.read_text(errors="replace").splitlines():
            lines.append(line.partition("\t")[2])
    return "\n".join(lines)


def wait_until(condition: Callable[[], Any], bound_s: float = 120.0) -> Any:
    """The condition's value once it is true; fails the test when it stays false."""
    bound = time.monotonic() + bound_s
    while time.monotonic() < bound:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("the condition did not come true in time")


@dataclass
class Gangs:
    """Starts gangs with one launcher and makes sure that none outlives its test."""

    launcher: Launcher
    folder: Path
    started: list[Handle] = field(default_factory=list)

    def start(self, job: Job, token: str = "") -> Handle:
        """Submit a job in a trial folder of its own."""
        token = token or uuid.uuid4().hex
        handle = self.launcher.submit(job, self.folder / f"trial-{len(self.started)}", token)
        self.started.append(handle)
        return handle

    def finish(self, handle: Handle, bound_s: float = 180.0) -> GangStatus:
        """Poll until the gang has ended, by itself."""

        def ended() -> GangStatus | None:
            status = self.launcher.poll(handle)
            return status if status.state in ("exited", "lost") else None

        return wait_until(ended, bound_s)

    def run(self, job: Job) -> tuple[GangStatus, Path]:
        """Start a job, wait for its end; the status and its trial's folder."""
        handle = self.start(job)
        return self.finish(handle), Path(handle["trial_dir"])


@contextmanager
def opened(name: str, folder: Path, options: dict[str, Any] | None = None) -> Iterator[Gangs]:
    """Gangs of one launcher; at the end all are ended, and nothing may carry their tokens."""
    gangs = Gangs(get_launcher(name, options or {}), folder)
    try:
        yield gangs
    finally:
        left = [end_gang(gangs.launcher, handle, 0.5) for handle in gangs.started]
    assert [some for some in left if some] == []
    for handle in gangs.started:
        assert host.marked(f"AUTOTUNE_TOKEN={handle['token']}") == []


def engine(name: str) -> Any:
    """The module that brings up a launcher's engine on this machine; None where it needs none."""
    path = ENGINES / f"{name}.py"
    if not path.is_file():
        return None
    key = f"autotune_test_engine_{name}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        spec.loader.exec_module(module)
    return sys.modules[key]


def need(reason: str) -> None:
    """Skip for want of a system package, or fail where all of them are required."""
    if os.environ.get("AUTOTUNE_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
