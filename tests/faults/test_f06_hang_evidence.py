"""F06, the supervisor's half: stacks are dumped, then TERM, then KILL of what ignores it."""

from __future__ import annotations

import signal
from pathlib import Path

from autotune.study.artifacts import trial_document
from autotune.study.paths import TrialPaths
from autotune.trial import Outcome, TrialRecord
from tests.launchers.gangs import actor_job, log_text, opened, wait_until


def test_f06_stacks_then_term_then_kill(tmp_path: Path) -> None:
    with opened("local", tmp_path) as gangs:
        job = actor_job("deaf", "say=stuck", "sleep=60", per="rank", gpus_per_node=2)
        handle = gangs.start(job)
        trial_dir = Path(handle["trial_dir"])
        wait_until(lambda: all("stuck" in log_text(trial_dir, rank) for rank in (0, 1)))
        gangs.launcher.cancel(handle, 0.5, dump_stacks=True)
        status = gangs.finish(handle)
        assert status.cancelled
        assert [entry.signal for entry in status.exits] == [signal.SIGKILL] * 2
        dumps = list((trial_dir / "logs").glob("stacks.*.txt"))
        assert len(dumps) == 2
        assert all("actor.py" in path.read_text() for path in dumps)
        record = TrialRecord(0, {}, "hash", outcome=Outcome.HANG)
        (trial_dir / "job.json").write_text("{}")
        told = trial_document(record, TrialPaths(trial_dir))
        assert all(f"Where it hung: {path.name}" in told for path in dumps) and "actor.py" in told
