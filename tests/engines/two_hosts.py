"""Two hosts on one machine: network namespaces joined by a bridge, each with its own name.

They share files and processes, as nodes on a shared file system share files, but not the
network: 127.0.0.1 of one is not the other's, and packets between them cross a veth pair. Needs
root and iproute2.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAMES = Path("/etc/netns")
AGENT = """#!/bin/sh
# Stands for ssh: AGENT HOST COMMAND... (no dots in names: orted cuts them off, and two daemons
# of one name would share their files in /tmp)
case "$1" in
{cases}*) echo "no host $1" >&2; exit 255;;
esac
host="$1"; shift
exec ip netns exec "$space" unshare --uts sh -c 'hostname "$0"; eval "$@"' "host-${{host##*.}}" "$@"
"""


@dataclass(frozen=True)
class TwoHosts:
    """The two hosts' addresses, their namespaces, and a program that runs commands on them."""

    network: str
    addresses: tuple[str, str]
    namespaces: tuple[str, str]
    agent: Path


def missing() -> str | None:
    """Why no namespaces can be made here; None when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [name for name in ("ip", "unshare", "hostname") if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    name = f"at-probe-{uuid.uuid4().hex[:6]}"
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return None if probe.returncode == 0 else "this kernel lets nobody make network namespaces"


def name_hosts(folder: Path, addresses: tuple[str, str]) -> None:
    """What /etc/hosts and /etc/resolv.conf are inside a namespace (``ip netns exec`` binds them).

    Without them each look-up waits for a name server that cannot be reached.
    """
    folder.mkdir(parents=True)
    lines = [f"{address} host-{address.rpartition('.')[2]}" for address in addresses]
    (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")


def ip(*words: str) -> None:
    """Run ip; CalledProcessError when it refuses."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def wait_until_reached(address: str) -> None:
    """Until a packet comes back: nobody listens there, so that it is a refusal."""
    bound = time.monotonic() + 20.0
    while time.monotonic() < bound:
        try:
            socket.create_connection((address, 9), 1.0).close()
        except ConnectionRefusedError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{address} cannot be reached over its bridge")


@contextmanager
def started(folder: Path) -> Iterator[TwoHosts]:
    """The two hosts, taken down at the end."""
    tag = uuid.uuid4().hex[:6]
    bridge = f"atb{tag}"
    stem = f"10.{100 + int(tag[:2], 16) % 100}.{int(tag[2:4], 16)}"  # so that two tests can run
    addresses = (f"{stem}.1", f"{stem}.2")
    spaces = (f"at-{tag}-1", f"at-{tag}-2")
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", f"{stem}.254/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for number, (space, address) in enumerate(zip(spaces, addresses, strict=True)):
            outside, inside = f"ato{tag}{number}", f"ati{tag}{number}"
            ip("netns", "add", space)
            name_hosts(NAMES / space, addresses)
            ip("link", "add", outside, "type", "veth", "peer", "name", inside)
            ip("link", "set", outside, "master", bridge, "up")
            ip("link", "set", inside, "netns", space)
            ip("-n", space, "link", "set", inside, "name", "eth0")
            ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
            ip("-n", space, "route", "add", "default", "via", f"{stem}.254")
        for address in addresses:
            wait_until_reached(address)
        agent = folder / "agent"
        cases = "".join(
            f"{address}) space={space};;\n"
            for space, address in zip(spaces, addresses, strict=True)
        )
        agent.write_text(AGENT.format(cases=cases))
        agent.chmod(0o755)
        yield TwoHosts(f"{stem}.0/24", addresses, spaces, agent)
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
            shutil.rmtree(NAMES / space, ignore_errors=True)
        for link in (bridge, f"ato{tag}0", f"ato{tag}1"):
            subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
