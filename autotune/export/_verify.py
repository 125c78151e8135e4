"""Runs an exported script as its user would, and measures it as a trial is measured."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from threading import Timer

from autotune.controller.setting import Options, prepare_space
from autotune.errors import BadInput, InfrastructureError
from autotune.export import Winner
from autotune.frameworks import get_framework
from autotune.logs import Parser
from autotune.logs.reader import clean
from autotune.search.merit import merit
from autotune.search.steady import SteadyState
from autotune.study.record import Study
from autotune.trial import Interval

LINES_KEPT = 5


def rerun(study: Study, winner: Winner) -> Interval:
    """The objective of ``run.sh``, run here to its end or its time limit.

    BadInput for a simulated study, several nodes, or an export without run.sh;
    InfrastructureError when the script fails or prints nothing that can be timed.
    """
    script = winner.folder / "run.sh"
    if winner.provenance["simulated"]:
        raise BadInput("--verify: the figure is simulated; there is nothing real to compare with")
    if winner.job.nodes > 1 or not script.is_file():
        raise BadInput("--verify runs the run.sh of one node here; run this export on its cluster")
    setting = prepare_space(winner.space, Options.from_json(study.settings["options"]))
    framework = get_framework(str(winner.config.get("framework", winner.space.frameworks[0])))
    parser = Parser(framework.log_format(winner.space))
    steady = SteadyState(setting.workload(winner.config, winner.job), setting.step_limits())
    process = subprocess.Popen(
        [str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    timer = Timer(winner.job.time_limit_s, _end, (process,))
    timer.start()
    last: list[str] = []
    try:
        assert process.stdout is not None
        for text in process.stdout:
            for line in clean(text.rstrip(b"\n")):
                last = [*last[1 - LINES_KEPT :], line]
                for sample in parser.feed(line, time.monotonic(), 0):
                    steady.feed(sample)
        code = process.wait()
    finally:
        timer.cancel()
        _end(process)
    for sample in parser.finish():
        steady.feed(sample)
    measured = steady.measurement()
    figure = merit(measured, winner.space.objective) if measured is not None else None
    if code != 0 or figure is None:
        raise InfrastructureError(
            f"{script} ended with {code} and "
            f"{'nothing that can be timed' if figure is None else 'figures'}; its last lines:\n  "
            + "\n  ".join(last)
        )
    return figure


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the script's own session, all of it, if it still runs."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
