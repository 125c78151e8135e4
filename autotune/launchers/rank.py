"""One rank on a node: its process, and its output as stamped lines in bounded segments.

One of the files that run on nodes beside ``supervisor.py``: see ``host.py``.
"""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from autotune.launchers.cgroup import join
    from autotune.launchers.host import prctl, process_stat
else:
    from cgroup import join
    from host import prctl, process_stat
if TYPE_CHECKING:
    from typing import Any

LINE_LIMIT = 64 * 1024
SEGMENT_BYTES = 16 * 1024 * 1024
TAIL_SEGMENTS = 3


class RankLog:
    """One rank's output as stamped lines in segments, the head and the tail of it kept.

    Memory is bounded by one read and one unfinished line; disk by four segments. A disk that
    refuses costs lines (``dropped`` bytes), never the trainer's progress. ``secrets`` are values
    that the rank knows and no log may tell: they are written as ``***``.
    """

    def __init__(
        self, folder: str, rank: int, source: int, secrets: tuple[bytes, ...] = ()
    ) -> None:
        self.secrets = secrets
        self.stem = os.path.join(folder, f"rank{rank}.")
        self.source = source
        self.segment = 0
        self.size = 0
        self.dropped = 0
        self.rest = b""
        self.after_return = False
        self.torn = False
        self.file = self._open()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.open(f"{self.stem}{self.segment:03d}.log", flags, 0o600)

    def drain(self) -> int:
        """Take what the pipe has now, at most one read: bytes taken, 0 at its end, -1 for none."""
        try:
            data = os.read(self.source, LINE_LIMIT)
        except BlockingIOError:
            return -1
        if not data:
            return 0
        taken = len(data)
        if self.after_return and data.startswith(b"\n"):
            data = data[1:]
        self.after_return = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        if lines and len(lines[0]) > LINE_LIMIT:
            lines[:1] = [lines[0][:LINE_LIMIT], lines[0][LINE_LIMIT:]]
        if len(self.rest) >= LINE_LIMIT:
            lines.append(self.rest[:LINE_LIMIT])
            self.rest = self.rest[LINE_LIMIT:]
        self._write(lines)
        return taken

    def close(self) -> None:
        """Write the unfinished last line and close."""
        if self.rest:
            self._write([self.rest])
            self.rest = b""
        os.close(self.file)
        os.close(self.source)

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        stamp = b"%.6f\t" % time.monotonic()
        block = stamp + (b"\n" + stamp).join(lines) + b"\n"
        for secret in self.secrets:
            block = block.replace(secret, b"***")
        written = 0
        try:
            if self.size and self.size + len(block) > SEGMENT_BYTES:
                self._rotate()
            if self.torn:
                os.write(self.file, b"\n")
            written = os.write(self.file, block)
        except OSError:
            pass
        self.torn = written not in (0, len(block))
        self.size += written
        self.dropped += len(block) - written

    def _rotate(self) -> None:
        full = self.file
        self.segment += 1
        self.size = 0
        self.file = self._open()
        os.close(full)
        gone = self.segment - TAIL_SEGMENTS
        if gone > 0:
            os.unlink(f"{self.stem}{gone:03d}.log")


class Rank:
    """One started process of the gang and how it ended."""

    def __init__(self, rank: int, pid: int, log: RankLog) -> None:
        self.rank = rank
        self.pid = pid
        self.log: RankLog = log
        self.start_time = (process_stat(pid) or ("", 0, 0))[2]
        self.code: int | None = None
        self.signal: int | None = None
        self.ended_s: float | None = None
        self.ended_by_us = False

    def reaped(self, status: int, ending: bool) -> None:
        """Record the wait status; ``ending``: we had begun to end the gang by then."""
        self.ended_s = time.monotonic()
        self.ended_by_us = ending
        if os.WIFSIGNALED(status):
            self.signal = os.WTERMSIG(status)
        else:
            self.code = os.WEXITSTATUS(status)

    @property
    def failed(self) -> bool:
        """Whether it ended badly and of itself."""
        return self.ended_s is not None and self.code != 0 and not self.ended_by_us

    def record(self) -> dict[str, Any]:
        """Its part of the exit record."""
        names = ("rank", "pid", "start_time", "code", "signal", "ended_s", "ended_by_us")
        return {**{name: getattr(self, name) for name in names}, "dropped": self.log.dropped}


def start_process(
    argv: list[str],
    env: dict[str, str],
    cwd: str,
    output: int,
    groups: tuple[int, str],
    umask: int,
) -> int:
    """Fork and execute; returns the pid. OSError when the program or folder cannot be used.

    ``groups``: the process group it joins (0: it leads a new one) and the control group (""
    for none). It dies with this process.
    """
    ready, failure = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:
                os._exit(127)
            os.setpgid(0, groups[0])
            if groups[1]:
                join(groups[1])
            for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM):
                signal.signal(signum, signal.SIG_DFL)
            os.umask(umask)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(cwd)
            os.execvpe(argv[0], argv, env)
        except OSError as error:
            os.write(failure, str(error.errno or 0).encode())
        finally:
            os._exit(127)
    os.close(failure)
    with os.fdopen(ready, "rb") as pipe:
        refused = pipe.read()
    if refused:
        os.waitpid(pid, 0)
        number = int(refused)
        missing = argv[0] if os.path.isdir(cwd) else cwd
        raise OSError(number, os.strerror(number), missing)
    return pid
