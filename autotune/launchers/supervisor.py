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

Processes are known by (pid, start time), found by ancestry (this process is their subreaper,
so an orphan's parent is always one of ours) and by the mark in their environment; never by
name. Imports are few on purpose (no pathlib, no subprocess, no contextlib): a trial's overhead
is mostly this file's start-up.
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
    from autotune.launchers.host import (
        allowed_environment,
        boot_id,
        descendants,
        free_port,
        machine,
        marked,
        oom_kills,
        own_address,
        prctl,
        process_stat,
        read_object,
        secret_values,
        send_signal,
        write_whole,
    )
    from autotune.launchers.rank import Rank, RankLog, start_process
else:  # a script on a node: its neighbours lie beside it
    sys.path.insert(0, HERE)
    from host import (
        allowed_environment,
        boot_id,
        descendants,
        free_port,
        machine,
        marked,
        oom_kills,
        own_address,
        prctl,
        process_stat,
        read_object,
        secret_values,
        send_signal,
        write_whole,
    )
    from rank import Rank, RankLog, start_process

    sys.path.remove(HERE)
if TYPE_CHECKING:
    from typing import Any

NODE_FILES = ("supervisor.py", "host.py", "rank.py", "nvml.py")
PIPE_BYTES = 1024 * 1024
TICK_S = 0.2
SHARED_TICK_S = 1.0
ENDING_TICK_S = 0.02
LEFTOVER_GRACE_S = 2.0
KILL_BOUND_S = 10.0
DUMP_BOUND_S = 10.0
RENDEZVOUS_BOUND_S = 120.0


class Supervisor:
    """Runs part ``index`` of the gang that ``spec`` (gang.json) describes, to its exit record."""

    def __init__(self, spec: dict[str, Any], folder: str, index: int) -> None:
        self.spec = spec
        self.folder = folder
        self.index = index
        self.mark = f"{spec['token']}:{index}"
        self.ranks: list[Rank] = []
        self.error: str | None = None
        self.started_s = time.monotonic()
        self.started_at = time.time()
        self.oom_kills_before = oom_kills()
        self.first_failed: int | None = None
        self.peers_end_at: float | None = None
        self.ending: str | None = None
        self.term_sent = False
        self.grace_s = float(spec["grace_s"])
        self.kill_at = 0.0
        self.dumps: dict[int, float] = {}
        self.leftovers = 0
        self.survivors: list[int] = []
        self.terminated = False
        self.abandoned = False
        self.next_look = 0.0
        self.sampler: Any = None

    # -- starting

    def own_ranks(self) -> list[tuple[int, int]]:
        """(rank, local rank) of what this part starts."""
        per, local_size = self.spec["per"], max(1, int(self.spec["gpus_per_node"]))
        if per != "rank":
            return [(self.index, 0)]
        if self.spec["unit"] == "rank":
            told = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", self.index % local_size)
            return [(self.index, int(told))]
        return [(self.index * local_size + local, local) for local in range(local_size)]

    def rendezvous(self) -> tuple[str, int]:
        """MASTER_ADDR and MASTER_PORT: as told, else as part 0 chose them on its own node."""
        if self.spec["master_addr"]:
            return str(self.spec["master_addr"]), int(self.spec["master_port"])
        path = os.path.join(self.folder, "rendezvous.json")
        if self.index == 0:
            chosen = {"addr": own_address(), "port": free_port(), "token": self.spec["token"]}
            write_whole(path, chosen)
            return str(chosen["addr"]), int(str(chosen["port"]))
        bound = time.monotonic() + RENDEZVOUS_BOUND_S
        request = os.path.join(self.folder, "cancel")
        while time.monotonic() < bound and not self.terminated and not os.path.exists(request):
            told = read_object(path)
            if told and told.get("token") == self.spec["token"]:
                return str(told["addr"]), int(told["port"])
            time.sleep(0.05)
        raise OSError(f"part 0 told no rendezvous in {path} (waited {RENDEZVOUS_BOUND_S:.0f} s)")

    def environment(self, rank: int, local_rank: int, address: str, port: int) -> dict[str, str]:
        """What one started process sees: allowed variables, the job's own, and its place."""
        spec = self.spec
        local_size = max(1, int(spec["gpus_per_node"]))
        node = rank // local_size if spec["per"] == "rank" else self.index
        env = allowed_environment(set(spec["inherit"]))
        env.setdefault("PYTHONUNBUFFERED", "1")
        env.update(spec["env"])
        if spec["path_prefix"]:
            env["PATH"] = spec["path_prefix"] + os.pathsep + env.get("PATH", os.defpath)
        place = {"MASTER_ADDR": address, "MASTER_PORT": port}
        place.update({"PET_MASTER_ADDR": address, "PET_MASTER_PORT": port})
        if spec["per"] != "job":
            place.update({"NODE_RANK": node, "NNODES": spec["nodes"]})
        if spec["per"] == "node":
            place.update({"PET_NODE_RANK": node, "PET_NNODES": spec["nodes"]})
            place.update({"PET_NPROC_PER_NODE": local_size, "PET_MAX_RESTARTS": 0})
        if spec["per"] == "rank":
            place.update({"RANK": rank, "LOCAL_RANK": local_rank, "GROUP_RANK": node})
            place.update({"WORLD_SIZE": int(spec["nodes"]) * local_size})
            place.update({"LOCAL_WORLD_SIZE": local_size})
        if spec["gpus"]:
            place["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in spec["gpus"])
        env.update({name: str(value) for name, value in place.items()})
        env["AUTOTUNE_TOKEN"] = spec["token"]
        env["AUTOTUNE_PART"] = self.mark
        env["AUTOTUNE_TRIAL_DIR"] = self.folder
        return env

    def visible_gpus(self) -> list[str]:
        """Indices or UUIDs of the GPUs this part was given; empty where nothing tells."""
        if not int(self.spec["gpus_per_node"]):
            return []
        told = self.spec["env"].get("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))
        return [str(gpu) for gpu in self.spec["gpus"]] or (told or "").split(",")

    def start_ranks(self, umask: int) -> None:
        """Start every rank of this part; OSError when one of them cannot be."""
        os.makedirs(os.path.join(self.folder, "logs"), 0o700, exist_ok=True)
        address, port = self.rendezvous()
        for rank, local_rank in self.own_ranks():
            env = self.environment(rank, local_rank, address, port)
            self.start_rank(rank, env, umask)

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
        log = RankLog(os.path.join(self.folder, "logs"), rank, source, secrets)
        argv = [str(word).replace("{rank}", str(rank)) for word in self.spec["argv_prefix"]]
        argv += self.spec["argv"]
        group = self.ranks[0].pid if self.ranks else 0
        try:
            pid = start_process(argv, env, self.spec["cwd"] or self.folder, sink, group, umask)
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
            self.dumps.pop(pid, None)
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
        elif now >= self.started_s + float(self.spec["time_limit_s"]):
            self.begin_end("deadline", self.grace_s, now)
        elif self.peers_end_at is not None and now >= self.peers_end_at:
            self.begin_end("rank_failed", self.grace_s, now)

    def look(self, now: float) -> None:
        """Look in the trial's folder, which may be a slow file system: cancelled? others failed?"""
        request = os.path.join(self.folder, "cancel")
        if os.path.exists(request):
            asked = read_object(request) or {}
            if asked.get("dump"):
                self.dump_stacks(now)
            self.begin_end("cancel", float(asked.get("grace_s", self.grace_s)), now)
        elif int(self.spec["parts"]) > 1 and self.others_failed():
            self.expect_end()

    def others_failed(self) -> bool:
        """Whether another part of the gang has told that it failed."""
        names = [name for name in os.listdir(self.folder) if name.startswith("exit.")]
        records = [read_object(os.path.join(self.folder, name)) for name in names]
        ours = [record for record in records if record and record["token"] == self.spec["token"]]
        return any(record["failed"] for record in ours)

    # -- ending

    def members(self) -> list[tuple[int, int]]:
        """(pid, start time) of all that lives of this part: by ancestry, and by its mark."""
        own = os.getpid()
        found = {*descendants(own), *marked(f"AUTOTUNE_PART={self.mark}")}
        return [(pid, start) for pid, start in sorted(found) if pid != own]

    def begin_end(self, reason: str, grace_s: float, now: float) -> None:
        """Ask everything to end (after the stack dumps), and note until when it may take."""
        self.ending = reason
        self.grace_s = grace_s
        self.continue_end(now)

    def continue_end(self, now: float) -> None:
        """TERM once the dumps are done, KILL from the end of the grace on."""
        if any(now < bound for bound in self.dumps.values()):
            return
        if not self.term_sent:
            self.term_sent = True
            self.kill_at = now + self.grace_s
            self.signal_members(signal.SIGTERM)
        elif now >= self.kill_at:
            self.signal_members(signal.SIGKILL)

    def signal_members(self, signum: int) -> None:
        """Signal all that lives of this part."""
        for pid, start_time in self.members():
            send_signal(pid, start_time, signum)

    def settled(self, now: float) -> bool:
        """Whether nothing is left once the ranks have ended; begins to end what is."""
        members = self.members()
        if not members:
            return True
        if self.ending is None or not self.leftovers:
            self.leftovers = len(members)
        if self.ending is None:
            self.begin_end("leftover", LEFTOVER_GRACE_S, now)
        if self.term_sent and now >= self.kill_at + KILL_BOUND_S:
            self.survivors = [pid for pid, _ in members]
            return True
        return False

    def dump_stacks(self, now: float) -> None:
        """Start py-spy on each Python process of the gang, where it is there; 16 at most."""
        program = self.spec["py_spy"]
        if not program or not os.access(program, os.X_OK):
            return
        for pid, _ in self.members()[:16]:
            try:
                if "python" not in os.path.basename(os.readlink(f"/proc/{pid}/exe")):
                    continue
            except OSError:
                continue
            path = os.path.join(self.folder, "logs", f"stacks.{pid}.txt")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            actions = [(os.POSIX_SPAWN_OPEN, fd, path, flags, 0o600) for fd in (1, 2)]
            argv = [program, "dump", "--pid", str(pid)]
            dump = os.posix_spawn(program, argv, dict(os.environ), file_actions=actions)
            self.dumps[dump] = now + DUMP_BOUND_S

    def end_containers(self) -> None:
        """Kill containers by the ids their starter wrote: they are no descendants of ours."""
        folder = os.path.join(self.folder, "containers")
        program = self.spec["container_program"]
        for rank in self.ranks if program and self.ending else ():
            try:
                with open(os.path.join(folder, f"rank{rank.rank}.cid")) as file:
                    container = file.read().strip()
                argv = [program, "kill", container]
                os.waitpid(os.posix_spawnp(program, argv, dict(os.environ)), 0)
            except OSError:
                continue

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
            "host": os.uname().nodename,
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
        identity.update({"host": os.uname().nodename, "boot_id": boot_id()})
        identity["ranks"] = [rank for rank, _ in self.own_ranks()]
        identity.update({"monotonic_s": time.monotonic(), "wall_s": time.time()})
        write_whole(os.path.join(self.folder, f"supervisor.{self.index}.json"), identity, False)
        try:
            self.start_ranks(umask)
            self.sampler = start_sampler(self.visible_gpus(), self.spec["token"])
        except OSError as error:
            self.look(time.monotonic())
            if self.ending is None and not self.terminated:
                what = error.filename or self.spec["argv"][0]
                self.error = f"cannot start {what!r}: {error.strerror or error}"
                self.begin_end("start", 0.0, time.monotonic())
        self.watch(wake, lifeline)
        self.end_containers()
        return self.tell(self.record())

    def tell(self, record: dict[str, Any]) -> bool:
        """Write the exit record; a full disk gets half a minute to recover."""
        path = os.path.join(self.folder, f"exit.{self.index}.json")
        for attempt in range(30):
            try:
                write_whole(path, record)
                return True
            except OSError as error:
                print(f"autotune: {path}: {error}", file=sys.stderr, flush=True)
                time.sleep(min(1.0, 0.1 * (attempt + 1)))
        return False


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


def part_index(word: str) -> int:
    """Which part of the gang this is: a number, or ``env`` for what mpirun or srun tell."""
    if word != "env":
        return int(word)
    for name in ("OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "PMIX_RANK", "PMI_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    raise SystemExit("supervisor: INDEX is env, but neither mpirun nor srun started this process")


def sweep(token: str) -> int:
    """Kill all that carries a token on this host; 0 when nothing is left."""
    bound = time.monotonic() + KILL_BOUND_S
    while True:
        found = [entry for entry in marked(f"AUTOTUNE_TOKEN={token}") if entry[0] != os.getpid()]
        if not found or time.monotonic() > bound:
            break
        for pid, start_time in found:
            send_signal(pid, start_time, signal.SIGKILL)
        time.sleep(0.05)
    for pid, _ in found:
        print(f"autotune: {os.uname().nodename}: process {pid} cannot be killed", flush=True)
    return 1 if found else 0


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
