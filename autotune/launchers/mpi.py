"""Gangs on hosts that Open MPI's mpirun reaches (ssh, or whatever agent it is told).

A job per rank becomes ``--map-by ppr:G:node``, one supervisor a rank, so that programs that
call MPI themselves work too; otherwise one supervisor a node. RANK, WORLD_SIZE and the rest
are set from mpirun's own variables. Tried with Open MPI 4.1.

Options besides those of every launcher (``_gang.GangOptions``):
    hosts            ["node1:8", "node2:8"], or
    hostfile         Open MPI's hostfile; with neither, this machine
    mpirun           the program (default: mpirun)
    mpirun_args      more arguments for it, such as ["--mca", "btl_tcp_if_include", "eth0"]
    ssh_args         options for ssh, such as "-p 2222 -i ~/.ssh/cluster"
    allow_run_as_root, oversubscribe    as mpirun's (root: on when the controller is root)
    master_addr      the address of the first host that others reach (default: it tells itself)
The trial's folder has to be shared by all hosts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from autotune.errors import BadInput
from autotune.launchers import _gang, _records, host
from autotune.launchers._client import ClientGangs
from autotune.launchers.nvml import read_gpus
from autotune.trial import GangStatus, Handle, Job

KNOWN = (
    "hosts", "hostfile", "mpirun", "mpirun_args", "ssh_args",
    "allow_run_as_root", "oversubscribe", "master_addr",
)  # fmt: skip
NOT_EXPORTED = frozenset(
    {"HOME", "HOSTNAME", "LOGNAME", "PWD", "SHELL", "TEMP", "TERM", "TMPDIR", "USER"}
)
ENGINE_PREFIXES = ("OMPI_", "OPAL_", "ORTE_", "PMIX_", "PMI_", "SLURM_")


class Mpi:
    """The launcher ``mpi``."""

    name = "mpi"
    names_processes = True

    def __init__(self, options: dict[str, Any]) -> None:
        options.setdefault("node_python", "python3")
        self.options = _gang.GangOptions.take(options, self.name)
        self.hosts = _gang.words(options.pop("hosts", ()), "mpi.hosts")
        self.hostfile = options.pop("hostfile", None)
        self.mpirun = str(options.pop("mpirun", "mpirun"))
        self.mpirun_args = _gang.words(options.pop("mpirun_args", ()), "mpi.mpirun_args")
        self.ssh_args = str(options.pop("ssh_args", "") or "")
        self.as_root = bool(options.pop("allow_run_as_root", os.geteuid() == 0))
        self.oversubscribe = bool(options.pop("oversubscribe", False))
        self.master_addr = str(options.pop("master_addr", "") or "")
        _gang.refuse_unknown(options, KNOWN, self.name)
        if self.hosts and self.hostfile:
            raise BadInput("mpi: give `hosts` or `hostfile`, not both")
        if self.hostfile and not Path(self.hostfile).is_file():
            raise BadInput(f"mpi.hostfile: {self.hostfile}: no such file")
        self._gangs = ClientGangs()

    def submit(self, job: Job, trial_dir: Path, token: str) -> Handle:
        """Start mpirun and return its handle; see ``Launcher.submit``."""
        if shutil.which(self.mpirun) is None:
            raise BadInput(f"mpi.mpirun: no program {self.mpirun!r}. Install Open MPI.")
        if not (self.hosts or self.hostfile):
            _gang.check_program(job, self.options, trial_dir)
        per_node = max(1, job.gpus_per_node) if job.per == "rank" else 1
        parts = 1 if job.per == "job" else job.nodes * per_node
        port = host.free_port() if self.master_addr else 0
        unit: Literal["node", "rank"] = "rank" if job.per == "rank" else "node"
        hosts = tuple(map(_name_in, self._listed()))
        plan = _gang.GangPlan(parts, unit, self.master_addr, port, hosts=hosts)
        env = _gang.prepare(job, trial_dir, token, self.options, plan)
        argv = self._mpirun(parts, per_node)
        for name in sorted(env):
            if name not in NOT_EXPORTED and not name.startswith(ENGINE_PREFIXES):
                argv += ["-x", name]
        argv += _gang.carried_argv(self.options, trial_dir)
        handle = self._gangs.start(argv, env, trial_dir, token)
        return {"launcher": self.name, **handle}

    def poll(self, handle: Handle) -> GangStatus:
        """The gang's status; see ``Launcher.poll``."""
        return self._gangs.poll(handle)

    def cancel(self, handle: Handle, grace_s: float, dump_stacks: bool = False) -> None:
        """Ask the gang to end, escalating on later calls; see ``Launcher.cancel``."""
        nodes = int(_records.told_spec(handle["trial_dir"])["nodes"])
        sweep = self._mpirun(nodes, 1)
        sweep += _gang.sweep_argv(self.options, Path(handle["trial_dir"]), handle["token"])
        self._gangs.cancel(handle, grace_s, dump_stacks, sweep)

    def survivors(self, handle: Handle) -> list[str]:
        """What is known to be left; see ``Launcher.survivors``."""
        return self._gangs.survivors(handle)

    def find(self, trial_dir: Path, token: str) -> Handle | None:
        """The mpirun that was started for this token, or what its records say."""
        found = self._gangs.find(trial_dir, token)
        return {"launcher": self.name, **found} if found else None

    def avoid(self, names: Sequence[str], needed: int) -> bool:
        """Leave hosts out of ``hosts`` or of the hostfile; see ``launchers.Launcher``."""
        listed = self._listed()
        avoided = {host.short_name(name) for name in names}
        kept = [entry for entry in listed if host.short_name(_name_in(entry)) not in avoided]
        if len(kept) < max(1, needed) or len(kept) == len(listed):
            return False
        self.hosts, self.hostfile = tuple(kept), None
        return True

    def check(self, job: Job) -> None:
        """Refuse more nodes than there are hosts; see ``launchers.Launcher``."""
        there = set(map(_name_in, self._listed()))
        if there and job.nodes > len(there):
            raise BadInput(
                f"mpi: the job wants {job.nodes} nodes, hosts or hostfile name {len(there)}: "
                "set cluster.nodes, or name more."
            )

    def without_gpus(self) -> bool:
        """Whether only this machine is used, and has none; see ``launchers.Launcher``."""
        names = {host.short_name(_name_in(entry)) for entry in self._listed()}
        here = {"localhost", "127.0.0.1", host.short_name(os.uname().nodename)}
        return names <= here | host.addresses() and not read_gpus()

    def _listed(self) -> tuple[str, ...]:
        """``host:slots`` of every host that may be used; empty where it is this machine."""
        return self.hosts or _hosts_in(self.hostfile)

    def _mpirun(self, count: int, per_node: int) -> list[str]:
        argv = [self.mpirun, "-np", str(count), "--map-by", f"ppr:{per_node}:node"]
        argv += ["--rank-by", "slot", "--bind-to", "none"]
        if self.as_root:
            argv.append("--allow-run-as-root")
        if self.oversubscribe:
            argv.append("--oversubscribe")
        if self.hosts:
            argv += ["--host", ",".join(self.hosts)]
        if self.hostfile:
            argv += ["--hostfile", str(self.hostfile)]
        if self.ssh_args:
            argv += ["--mca", "plm_rsh_args", self.ssh_args]
        return [*argv, *self.mpirun_args]


def _name_in(entry: str) -> str:
    """The host of ``host:slots``."""
    return entry.partition(":")[0]


def _hosts_in(hostfile: str | None) -> tuple[str, ...]:
    """``host:slots`` of each line of a hostfile, comments left out."""
    found = []
    for line in Path(hostfile).read_text().splitlines() if hostfile else ():
        words = line.partition("#")[0].split()
        slots = [word[6:] for word in words[1:] if word.startswith("slots=")]
        found += [":".join([words[0], *slots])] if words else []
    return tuple(found)


LAUNCHER = Mpi
