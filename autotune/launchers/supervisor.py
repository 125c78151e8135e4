"""The node's part of a gang: starts its ranks, keeps their logs, and never outlives its job.

Why a process of its own: a controller that dies and comes back cannot wait for children that
are not its own, and a training run must end at its deadline even if no controller ever
returns. Standard library only, Python 3.8 or later: with its neighbours (``NODE_FILES``) it can
be copied to any node and run there as ``python -I -S supervisor.py TRIAL_DIR/gang.json INDEX``
(``env`` for INDEX: taken from the variables of mpirun or srun). With ``--lifeline`` it detaches
from its starter and ends the gang once nobody holds the other end of its standard input.

    TRIAL_DIR/gang.json            what to start (names of secret variables, never their values)
    TRIAL_DIR/supervisor.N.json    who runs part N: pid, start time, host, boot id, clocks
    TRIAL_DIR/rendezvous.json      MASTER_ADDR and MASTER_PORT as part 0 chose them (many nodes)
    TRIAL_DIR/cancel               asks every part to end its ranks: {"grace_s": 10}
    TRIAL_DIR/logs/rankK.SSS.log   "monotonic seconds<tab>line", head and last segments kept
    TRIAL_DIR/exit.N.json          how it ended, written whole or not at all

Where its ranks stand and what they are told is ``place.py``'s, the files above ``folder.py``'s, who
belongs to the gang and how it is ended ``members.py``'s. Imports are few on purpose (no pathlib,
no subprocess, no contextlib): a trial's overhead is mostly this file's start-up.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
HERE = os.path.dirname(os.path.abspath(__file__))
if TYPE_CHECKING or __package__:
    from autotune.launchers.deadline import Deadline
    from autotune.launchers.folder import TrialFolder
    from autotune.launchers.host import (
        boot_id,
        machine,
        oom_kills,
        prctl,
        process_stat,
        read_object,
        secret_values,
    )
    from autotune.launchers.members import KILL_BOUND_S, Members, end_containers, sweep
    from autotune.launchers.place import Place, part_index
    from autotune.launchers.rank import Rank, RankLog, start_process
else:  # a script on a node: its neighbours lie beside it
    sys.path.insert(0, HERE)
    from deadline import Deadline
    from folder import TrialFolder
    from host import (
        boot_id,
        machine,
        oom_kills,
        prctl,
        process_stat,
        read_object,
        secret_values,
    )
    from members import KILL_BOUND_S, Members, end_containers, sweep
    from place import Place, part_index
    from rank import Rank, RankLog, start_process

    sys.path.remove(HERE)
if TYPE_CHECKING:
    from typing import Any

NODE_FILES = (
    "supervisor.py",
    "deadline.py",
    "folder.py",
    "place.py",
    "members.py",
    "rank.py",
    "cgroup.py",
    "host.py",
    "nvml.py",
)
PIPE_BYTES = 1024 * 1024
TICK_S = 0.2
SHARED_TICK_S = 1.0
ENDING_TICK_S = 0.02
LEFTOVER_GRACE_S = 2.0


class Supervisor:
    """Runs part ``index`` of the gang that ``spec`` (gang.json) describes, to its exit record."""

    def __init__(self, spec: dict[str, Any], folder: str, index: int) -> None:
        self.spec = spec
        self.folder = TrialFolder(folder, spec["token"])
        self.index = index
        self.place = Place(spec, folder, index)
        self.node = self.place.node()
        self.members = Members(spec["token"], index)
        self.ranks: list[Rank] = []
        self.error: str | None = None
        self.started_s = time.monotonic()
        self.deadline = Deadline(self.started_s, float(spec["time_limit_s"]))
        self.started_at = time.time()
        self.oom_kills_before = oom_kills()
        self.first_failed: int | None = None
        self.peers_end_at: float | None = None
        self.ending: str | None = None
        self.term_sent = False
        self.grace_s = float(spec["grace_s"])
        self.kill_at = 0.0
        self.leftovers = 0
        self.survivors: list[int] = []
        self.terminated = False
        self.abandoned = False
        self.next_look = 0.0
        self.sampler: Any = None

    # -- starting

    def start_ranks(self, umask: int) -> None:
        """Start every rank of this part; OSError when one of them cannot be."""
        os.makedirs(self.folder.logs, 0o700, exist_ok=True)
        address, port = self.place.rendezvous(self.given_up)
        for rank, local_rank in self.place.ranks():
            env = self.place.environment(rank, local_rank, address, port)
            self.start_rank(rank, env, umask)

    def given_up(self) -> bool:
        """Whether the gang was asked to end before its ranks were started."""
        return self.terminated or self.folder.cancelled()

    def start_rank(self, rank: int, env: dict[str, str], umask: int) -> None:
        """Start one rank; where that fails, its log and exit code say it as a shell would."""
        import fcntl

        source, sink = os.pipe()
        try:
            fcntl.fcntl(sink, 1031, PIPE_BYTES)  # F_SETPIPE_SZ
        except OSError:
            pass
        os.set_blocking(source, False)
        secrets = tuple(secret_values(env))
        log = RankLog(self.folder.logs, rank, source, secrets)
        cwd = self.spec["cwd"] or self.folder.path
        groups = (self.ranks[0].pid if self.ranks else 0, self.members.group)
        try:
            pid = start_process(self.place.argv(rank), env, cwd, sink, groups, umask)
            self.ranks.append(Rank(rank, pid, log))
        except OSError as error:
            code, reason = (127, "command not found") if error.errno == 2 else (126, "refused")
            os.write(sink, f"autotune: {error.filename}: {reason} ({error.strerror})\n".encode())
            self.ranks.append(Rank(rank, 0, log))
            self.ranks[-1].reaped(code << 8, ending=False)
            self.first_failed = rank
            raise
        finally:
            os.close(sink)

    # -- watching

    def watch(self, wake: int, lifeline: int) -> None:
        """Keep the logs, the deadline and the cancel request until nothing of the gang is left."""
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        if lifeline >= 0:
            poller.register(lifeline, select.POLLIN)
        logs = {rank.log.source: rank.log for rank in self.ranks}
        for source in logs:
            poller.register(source, select.POLLIN)
        next_check = 0.0
        while True:
            tick = ENDING_TICK_S if self.ending else TICK_S
            for source, _ in poller.poll(tick * 1000):
                if source == wake:
                    os.read(wake, 4096)
                    next_check = 0.0
                elif source == lifeline:
                    poller.unregister(lifeline)
                    self.abandoned = True
                    next_check = 0.0
                elif logs[source].drain() == 0:
                    poller.unregister(source)
            now = time.monotonic()
            if now < next_check:
                continue
            next_check = now + tick
            self.reap()
            self.check(now)
            if all(rank.ended_s is not None for rank in self.ranks) and self.settled(now):
                break
        self.reap()
        for log in logs.values():
            while log.drain() > 0:
                pass
            log.close()

    def reap(self) -> None:
        """Take the exit status of every child that ended: ranks, dumps, adopted orphans."""
        by_pid = {rank.pid: rank for rank in self.ranks if rank.ended_s is None}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.members.dumps.pop(pid, None)
            rank = by_pid.get(pid)
            if rank is None:
                continue
            told_with_us = self.terminated and status == signal.SIGTERM
            rank.reaped(status, self.term_sent or told_with_us)
            if rank.failed and self.first_failed is None:
                self.first_failed = rank.rank
                self.expect_end()

    def expect_end(self) -> None:
        """A rank failed here or elsewhere: the others get a short grace to say why."""
        if self.peers_end_at is None:
            self.peers_end_at = time.monotonic() + float(self.spec["peer_grace_s"])

    def check(self, now: float) -> None:
        """Begin or continue to end the gang where something asks for it."""
        if self.ending is None and (self.terminated or now >= self.next_look):
            self.next_look = now + (SHARED_TICK_S if int(self.spec["parts"]) > 1 else 0.0)
            self.look(now)
        if self.ending is not None:
            self.continue_end(now)
        elif self.abandoned:
            self.begin_end("abandoned", self.grace_s, now)
        elif self.terminated:
            self.begin_end("signal", self.grace_s, now)
        elif self.deadline.passed(now):
            self.begin_end("deadline", self.grace_s, now)
        elif self.peers_end_at is not None and now >= self.peers_end_at:
            self.begin_end("rank_failed", self.grace_s, now)

    def look(self, now: float) -> None:
        """Look in the trial's folder, which may be a slow file system: cancelled? others failed?"""
        names = self.folder.names()
        self.deadline.look(names, now)
        if "cancel" in names:
            asked = self.folder.request()
            if asked.get("dump"):
                self.members.dump_stacks(self.spec["py_spy"], self.folder.logs)
            self.begin_end("cancel", float(asked.get("grace_s", self.grace_s)), now)
        elif int(self.spec["parts"]) > 1 and self.folder.others_failed(names):
            self.expect_end()

    # -- ending

    def begin_end(self, reason: str, grace_s: float, now: float) -> None:
        """Ask everything to end (after the stack dumps), and note until when it may take."""
        self.ending = reason
        self.grace_s = grace_s
        self.continue_end(now)

    def continue_end(self, now: float) -> None:
        """TERM once the dumps are done, KILL from the end of the grace on."""
        if self.members.being_dumped():
            return
        if not self.term_sent:
            self.term_sent = True
            self.kill_at = now + self.grace_s
            self.members.send(signal.SIGTERM)
        elif now >= self.kill_at:
            self.members.send(signal.SIGKILL)

    def settled(self, now: float) -> bool:
        """Whether nothing is left once the ranks have ended; begins to end what is."""
        alive = self.members.alive()
        if not alive:
            self.members.close()
            return True
        if self.ending is None or not self.leftovers:
            self.leftovers = len(alive)
        if self.ending is None:
            self.begin_end("leftover", LEFTOVER_GRACE_S, now)
        if self.term_sent and now >= self.kill_at + KILL_BOUND_S:
            self.survivors = [pid for pid, _ in alive]
            return True
        return False

    # -- telling

    def record(self) -> dict[str, Any]:
        """The exit record of this part."""
        import resource

        ended_s = time.monotonic()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = ended_s - self.started_s
        gpus = int(self.spec["gpus_per_node"]) * int(self.spec["nodes"]) / int(self.spec["parts"])
        struck = self.first_failed is not None and oom_kills() > self.oom_kills_before >= 0
        return {
            "version": 1,
            "token": self.spec["token"],
            "index": self.index,
            "host": self.node,
            "ranks": [rank.record() for rank in self.ranks],
            "error": self.error,
            "failed": self.error is not None or any(rank.failed for rank in self.ranks),
            "first_failed": self.first_failed,
            "ended_by": self.ending if self.ending != "leftover" else None,
            "leftovers": self.leftovers,
            "survivors": self.survivors,
            "oom_kill": struck,
            "started_s": self.started_s,
            "ended_s": ended_s,
            "started_at": self.started_at,
            "ended_at": time.time(),
            "gpu_seconds": seconds * gpus,
            "user_s": used.ru_utime,
            "system_s": used.ru_stime,
            "peak_rss_gib": used.ru_maxrss / 2**20,
            "gpus": self.sampler.record() if self.sampler else [],
            "machine": machine(),
        }

    def run(self, umask: int, wake: int, lifeline: int) -> bool:
        """Start, watch, end; returns whether the exit record stands."""
        identity = {"pid": os.getpid(), "token": self.spec["token"], "index": self.index}
        identity["start_time"] = (process_stat(os.getpid()) or ("", 0, 0))[2]
        identity.update({"host": self.node, "boot_id": boot_id()})
        identity["ranks"] = [rank for rank, _ in self.place.ranks()]
        identity["cgroup"] = self.members.group
        identity.update({"monotonic_s": time.monotonic(), "wall_s": time.time()})
        self.folder.identify(self.index, identity)
        try:
            self.start_ranks(umask)
            self.sampler = start_sampler(self.place.visible_gpus(), self.spec["token"])
        except OSError as error:
            self.look(time.monotonic())
            if self.ending is None and not self.terminated:
                what = error.filename or self.spec["argv"][0]
                self.error = f"cannot start {what!r}: {error.strerror or error}"
                self.begin_end("start", 0.0, time.monotonic())
        self.watch(wake, lifeline)
        if self.spec["container_engine"] and self.ending:
            folder = os.path.join(self.folder.path, "containers")
            end_containers(self.spec["container_engine"], folder, self.ranks)
        return self.folder.tell_exit(self.index, self.record())


def start_sampler(visible: list[str], token: str) -> Any:
    """Begin to sample this node's GPUs; None where there is no NVML (nvml.py lies beside us)."""
    try:
        import ctypes

        ctypes.CDLL(os.environ.get("AUTOTUNE_NVML_LIBRARY", "libnvidia-ml.so.1"))
        sys.path.insert(0, HERE)
        try:
            import nvml
        finally:
            sys.path.remove(HERE)
        return nvml.start_sampler(os.getpid(), visible, token)
    except Exception as error:  # figures must never cost the gang that they are of
        if not isinstance(error, OSError):
            print(f"autotune: GPUs are not sampled: {error!r}", file=sys.stderr, flush=True)
        return None


def main(arguments: list[str]) -> int:
    """``supervisor.py GANG_JSON INDEX``: 0 once an exit record stands, however the ranks ended.

    (mpirun and srun would end the other nodes at once on anything else, exit records and all.)
    """
    if arguments[0] == "--sweep":
        return sweep(arguments[1])
    path, index = os.path.abspath(arguments[0]), part_index(arguments[1])
    spec = read_object(path)
    if spec is None:
        print(f"autotune: {path}: not a gang description", file=sys.stderr)
        return 2
    lifeline = 0 if "--lifeline" in arguments else -1
    if lifeline == 0 and os.fork():
        return 0  # whoever kills our starter's children must not find us among them
    umask = os.umask(0o077)
    try:
        os.setsid()
    except PermissionError:
        pass  # already leads a group: started in a session of its own, or by mpirun
    prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    supervisor = Supervisor(spec, os.path.dirname(path), index)
    wake, alarm = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: setattr(supervisor, "terminated", True))
    for signum in (signal.SIGHUP, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    return 0 if supervisor.run(umask, wake, lifeline) else 1


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main(sys.argv[1:]))
