"""Commands of the suite, each in a process of its own that need not import the project again.

Start-up takes most of a short command's time, and the suite runs several hundred. A fork server
has imported everything once; what it forks differs from `python -m autotune` in its start only.
Tests of starts and of signals take the fixture `started`, which starts Python.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

LIMIT_S = 240
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [
        "tests.forked",
        "optuna.storages._rdb.storage",
        "sqlalchemy.dialects.sqlite",
        "alembic.command",
        "alembic.context",
        "scipy.linalg",
        "scipy.special",
        "autotune.cli.commands.run",
        "autotune.controller",
        "autotune.search.sampler",
        "autotune.report",
    ]
)


def autotune(
    words: tuple[str, ...], folder: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """`autotune WORDS` in ``folder`` with ``env`` and nothing else in the environment."""
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place, "stdout"), Path(place, "stderr")
        process = _forks.Process(target=_run, args=(words, str(folder), dict(env), out, err))
        process.start()
        process.join(LIMIT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, LIMIT_S, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(
            words, process.exitcode, out.read_text(), err.read_text()
        )


def _run(words: tuple[str, ...], folder: str, env: dict[str, str], out: Path, err: Path) -> None:
    for descriptor, path in ((1, out), (2, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = ["autotune", *words]
    from autotune.cli import main

    main()
