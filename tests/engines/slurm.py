"""A real Slurm on this machine: munged, slurmctld and two virtual nodes with fake GPUs.

``slurmd``'s two copies share the host, so a "node" here is a name, a port and eight devices
that are really /dev/zero. Needs root and the packages slurm-wlm and munge.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autotune.launchers.host import prctl

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol", "scancel", "squeue")
SBIN = "/usr/sbin"
GPUS = 8

CONFIGURATION = """
ClusterName=autotune
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
KillWait=2
MinJobAge=60
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=16 RealMemory=4000 Gres=gpu:8
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=16 RealMemory=4000 Gres=gpu:8
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=short Nodes=n1,n2 MaxTime=1 State=UP PriorityTier=1
PartitionName=urgent Nodes=n1,n2 MaxTime=60 State=UP PriorityTier=10
"""


def missing() -> str | None:
    """Why no Slurm can be started here; None when it can."""
    search = f"{os.environ.get('PATH', os.defpath)}:{SBIN}"
    absent = [name for name in PROGRAMS if shutil.which(name, path=search) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (packages slurm-wlm and munge)"
    return None if os.geteuid() == 0 else "the test's Slurm needs root"


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on now."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def configure(folder: Path) -> None:
    """Write slurm.conf, gres.conf and a munge key of its own."""
    port, port1, port2 = free_ports(3)
    for name in ("state", "spool-n1", "spool-n2", "devices"):
        (folder / name).mkdir()
    for index in range(GPUS):
        device = folder / "devices" / f"nvidia{index}"
        os.mknod(device, 0o666 | 0o020000, os.makedev(1, 5))
    text = CONFIGURATION.format(
        host=socket.gethostname(), folder=folder, port=port, port1=port1, port2=port2
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/devices/nvidia[0-{GPUS - 1}]\n")
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    folder.chmod(0o755)
    for path in (folder, key):
        shutil.chown(path, "munge", "munge")


def die_with_us() -> None:
    """In a daemon before it starts: end when the tests are killed."""
    prctl(1, signal.SIGTERM)


def start_munge(folder: Path) -> subprocess.Popen[bytes]:
    """munged with files of its own, as user munge."""
    argv = [f"{SBIN}/munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    argv += [f"--key-file={folder}/munge.key", f"--pid-file={folder}/munge.pid"]
    argv += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    log = (folder / "munge.out").open("wb")
    return subprocess.Popen(
        argv, stdout=log, stderr=log, user="munge", group="munge", preexec_fn=die_with_us
    )


def start_daemons(folder: Path, env: dict[str, str]) -> list[subprocess.Popen[bytes]]:
    """slurmctld and the two slurmd in the foreground."""
    commands = [["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]]
    started = []
    for number, (program, *arguments) in enumerate(commands):
        log = (folder / f"daemon-{number}.out").open("wb")
        argv = [f"{SBIN}/{program}", *arguments]
        started.append(
            subprocess.Popen(argv, env=env, stdout=log, stderr=log, preexec_fn=die_with_us)
        )
    return started


def wait_for_nodes(env: dict[str, str], bound_s: float = 120.0) -> None:
    """Until both nodes are idle; RuntimeError with what sinfo says when they are not."""
    bound = time.monotonic() + bound_s
    argv = ["sinfo", "-h", "-p", "main", "-o", "%T %D"]
    told = ""
    while time.monotonic() < bound:
        told = subprocess.run(argv, env=env, capture_output=True, text=True, check=False).stdout
        if told.split() == ["idle", "2"]:
            return
        time.sleep(0.2)
    raise RuntimeError(f"Slurm's nodes are not idle: {told!r}")


@contextmanager
def started(folder: Path) -> Iterator[dict[str, Any]]:
    """A running cluster; yields the launcher's options. SLURM_CONF points to it meanwhile.

    Its files lie in /tmp and not in ``folder``: the user of munged must be able to reach them.
    """
    folder = Path(tempfile.mkdtemp(prefix="autotune-slurm-", dir="/tmp"))
    configure(folder)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    daemons = [start_munge(folder)]
    try:
        bound = time.monotonic() + 60.0
        while not (folder / "munge.socket").exists() and time.monotonic() < bound:
            time.sleep(0.05)
        if not (folder / "munge.socket").exists():
            raise RuntimeError((folder / "munge.out").read_text())
        daemons += start_daemons(folder, dict(os.environ))
        wait_for_nodes(dict(os.environ))
        yield {"partition": "main"}
    finally:
        for daemon in reversed(daemons):
            with suppress(ProcessLookupError):
                daemon.send_signal(signal.SIGTERM)
        for daemon in daemons:
            try:
                daemon.wait(10.0)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        if before is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)
