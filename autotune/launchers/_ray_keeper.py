"""One Ray node's keeper: the actor that starts, watches and reaps that node's part of gangs.

Ray carries this class to the node by value, since the node need not have autotune: it may use
the standard library, Ray, and what ``host.py`` offers. It never holds a gang's token in its own
environment. The supervisor it starts is no child of it (Ray kills those without a word) but
holds the reading end of a pipe, and ends its gang once the keeper is gone.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.launchers.host import (
    free_port,
    lives,
    marked,
    process_stat,
    read_object,
    send_signal,
    write_whole,
)
from autotune.launchers.members import carriers

REPLY_BYTES = 4 * 1024 * 1024
RENDEZVOUS_BOUND_S = 120.0
START_BOUND_S = 15.0
MIRRORED = (".json", ".log")


class Keeper:
    """Keeps one bundle of a placement group; gangs of the group's shape come one after another.

    It removes its placement group, itself included, once nothing has run and nobody has asked
    for ``idle_s`` seconds: a controller that died leaves no reserved nodes behind.
    """

    def __init__(self, group_id: str, idle_s: float) -> None:
        self.group_id = group_id
        self.idle_s = idle_s
        self.heard_at = time.monotonic()
        self.parts: dict[str, _Part] = {}
        self.refused: set[str] = set()
        self.ports: dict[str, int] = {}
        self.lock = threading.Lock()
        self.scripts = ""
        threading.Thread(target=self._leave_when_idle, daemon=True).start()

    def place(self, token: str) -> tuple[str, int]:
        """MASTER_ADDR and MASTER_PORT of a gang whose part 0 is here."""
        with self.lock:
            if token not in self.ports:
                self.ports[token] = free_port()
        return self._address(), self.ports[token]

    def where(self) -> dict[str, Any]:
        """Which node this is."""
        import ray

        node_id = ray.get_runtime_context().get_node_id()
        return {"node_id": node_id, "address": self._address(), "host": socket.gethostname()}

    def start(self, order: dict[str, Any], leader: Any) -> dict[str, Any]:
        """Start one part of a gang as ``order`` says; where it runs and if the folder is shared.

        Raises OSError when the node's disk or its Python refuses.
        """
        import ray

        self.heard_at = time.monotonic()
        token, index = order["token"], order["index"]
        if leader is None:
            address, port = self.place(token)
        else:
            asked = leader.place.remote(token)
            address, port = ray.get(asked, timeout=RENDEZVOUS_BOUND_S)
        told = read_object(str(Path(order["trial_dir"]) / "gang.json")) or {}
        shared = order["shared"] if order["shared"] is not None else told.get("token") == token
        folder = order["trial_dir"] if shared else self._own_folder(order)
        with self.lock:
            if token in self.refused or token in self.parts:
                return {**self.where(), "shared": shared}
            part = self.parts[token] = _Part(index, folder, shared)
        spec = dict(order["spec"], master_addr=address, master_port=port)
        spec["gpus"] = visible_gpus(order["gpus"])
        spec["path_prefix"] = spec["path_prefix"] or str(Path(sys.executable).parent)
        if not shared:
            spec = moved(spec, order["trial_dir"], folder)
        gang = str(Path(folder) / f"part.{index}.json")
        write_whole(gang, spec, durable=False)
        script = str(Path(self._script_folder(order["scripts"])) / "supervisor.py")
        python = order["node_python"] or sys.executable
        argv = [python, "-I", "-S", script, gang, str(index), "--lifeline"]
        part.spawn(argv, {**own_environment(), **order["env"]}, token)
        return {**self.where(), "shared": shared}

    def look(self, token: str, offsets: Mapping[str, int]) -> dict[str, Any]:
        """How a part is: ``known``, ``alive``, and what is new in its folder if nobody shares it.

        ``offsets`` maps names of files to the bytes that the asker has; exit records come last.
        """
        self.heard_at = time.monotonic()
        part = self.parts.get(token)
        if part is None:
            return {"known": False, "alive": False, "files": [], "names": None, **self.where()}
        alive = part.alive(token)
        files, names = ([], None) if part.shared else part.news(offsets)
        return {"known": True, "alive": alive, "files": files, "names": names, **self.where()}

    def put(self, token: str, name: str, data: bytes) -> None:
        """Leave a file in a part's folder (another part's exit record)."""
        part = self.parts.get(token)
        if part is not None and not part.shared:
            write_bytes(Path(part.folder) / Path(name).name, data)

    def cancel(self, token: str, request: dict[str, Any], kill: bool) -> None:
        """Ask a part to end, or kill all that carries the token on this node."""
        self.heard_at = time.monotonic()
        with self.lock:
            self.refused.add(token)
            part = self.parts.get(token)
        if kill:
            sweep(token, True)
        elif part is not None:
            path = Path(part.folder) / "cancel"
            if not path.exists():
                write_whole(str(path), request, durable=False)
            part.nudge()

    def survivors(self, token: str) -> list[str]:
        """What carries the token on this node."""
        self.heard_at = time.monotonic()
        return sweep(token, False)

    def forget(self, token: str) -> None:
        """The gang is over and all it wrote was fetched."""
        self.heard_at = time.monotonic()
        part = self.parts.pop(token, None)
        self.ports.pop(token, None)
        if part is not None:
            part.close()
            if not part.shared:
                shutil.rmtree(part.folder, ignore_errors=True)

    # -- inside

    @staticmethod
    def _address() -> str:
        import ray

        return str(ray.util.get_node_ip_address())

    @staticmethod
    def _own_folder(order: dict[str, Any]) -> str:
        root = Path(tempfile.gettempdir()) / f"autotune-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
        if root.stat().st_uid != os.getuid():
            raise PermissionError(f"{root} belongs to another user")
        folder = root / f"{order['token']}-{order['index']}"
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, text in order["files"].items():
            write_bytes(folder / name, text.replace(order["trial_dir"], str(folder)).encode())
        return str(folder)

    def _script_folder(self, scripts: Mapping[str, str]) -> str:
        with self.lock:
            if not self.scripts or not Path(self.scripts, "supervisor.py").is_file():
                folder = tempfile.mkdtemp(prefix="autotune-keeper-")
                for name, data in scripts.items():
                    write_bytes(Path(folder) / name, data.encode())
                self.scripts = folder
        return self.scripts

    def _leave_when_idle(self) -> None:
        import ray
        from ray.util.placement_group import PlacementGroup

        while True:
            time.sleep(min(5.0, self.idle_s / 4))
            busy = any(part.alive(token) for token, part in list(self.parts.items()))
            if busy:
                self.heard_at = time.monotonic()
            elif time.monotonic() - self.heard_at > self.idle_s:
                for token in list(self.parts):
                    self.forget(token)
                shutil.rmtree(self.scripts, ignore_errors=True)
                group = PlacementGroup(ray.PlacementGroupID.from_hex(self.group_id))
                ray.util.remove_placement_group(group)
                return


class _Part:
    """One gang's part on this node: its folder, and its supervisor by (pid, start time)."""

    def __init__(self, index: int, folder: str, shared: bool) -> None:
        self.index = index
        self.folder = folder
        self.shared = shared
        self.started_at = time.monotonic()
        self.lifeline = -1

    def spawn(self, argv: list[str], env: dict[str, str], token: str) -> None:
        """Start the supervisor, which detaches itself and holds the lifeline's other end."""
        source, self.lifeline = os.pipe()
        log = os.open(
            Path(self.folder) / f"supervisor.{self.index}.log",
            os.O_WRONLY | os.O_CREAT | os.O_APPEND,
            0o600,
        )
        try:
            subprocess.run(
                argv,
                env={**env, "AUTOTUNE_SUPERVISOR": token},
                cwd=self.folder,
                stdin=source,
                stdout=log,
                stderr=log,
                start_new_session=True,
                check=True,
                timeout=START_BOUND_S,
            )
        except subprocess.SubprocessError as error:
            where = socket.gethostname()
            raise OSError(f"the supervisor did not start on {where}: {error}") from error
        finally:
            os.close(source)
            os.close(log)

    def identity(self, token: str) -> tuple[int, int] | None:
        """The supervisor's pid and start time, as it told them."""
        told = read_object(str(Path(self.folder) / f"supervisor.{self.index}.json"))
        return (told["pid"], told["start_time"]) if told and told["token"] == token else None

    def alive(self, token: str) -> bool:
        """Whether the supervisor runs."""
        known = self.identity(token)
        if known is not None:
            return lives(*known)
        if time.monotonic() - self.started_at < 2.0:
            return True
        return bool(marked(f"AUTOTUNE_SUPERVISOR={token}"))

    def nudge(self) -> None:
        """Have the supervisor look for the request to cancel now."""
        told = read_object(str(Path(self.folder) / f"supervisor.{self.index}.json"))
        if told:
            send_signal(told["pid"], told["start_time"], signal.SIGTERM)

    def close(self) -> None:
        """Let go of the lifeline."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1

    def news(self, offsets: Mapping[str, int]) -> tuple[list[tuple[str, int, bytes]], list[str]]:
        """(name, offset, bytes) of what the asker lacks, within a bound, and all names."""
        root = Path(self.folder)
        logs = sorted(path for path in (root / "logs").glob("*") if path.is_file())
        tops = [path for path in root.glob("*") if path.suffix in MIRRORED and path.is_file()]
        tops.sort(key=lambda path: path.name.startswith("exit."))
        found, budget = [], REPLY_BYTES
        for path in [*logs, *tops]:
            name = str(path.relative_to(root))
            if path.name == f"exit.{self.index}.json" and budget <= 0:
                break
            if path.suffix == ".json":
                own = path.name in (f"exit.{self.index}.json", f"supervisor.{self.index}.json")
                if own and name not in offsets:
                    found.append((name, 0, path.read_bytes()))
                continue
            try:
                with path.open("rb") as file:
                    file.seek(offsets.get(name, 0))
                    data = file.read(max(0, budget))
            except OSError:
                continue
            budget -= len(data)
            if data:
                found.append((name, offsets.get(name, 0), data))
        return found, [str(path.relative_to(root)) for path in logs]


def write_bytes(path: Path, data: bytes) -> None:
    """Write a private file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)


def moved(value: Any, old: str, new: str) -> Any:
    """A description with the trial's folder replaced by the node's own."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [moved(entry, old, new) for entry in value]
    if isinstance(value, dict):
        return {name: moved(entry, old, new) for name, entry in value.items()}
    return value


def visible_gpus(wanted: int) -> list[str]:
    """The devices that Ray gave this actor, as CUDA names them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES", "") if wanted else ""
    return [word for word in told.split(",") if word]


def own_environment() -> dict[str, str]:
    """The node's environment as `ray start` had it: without what Ray sets for its workers."""
    found = dict(os.environ)
    stat = process_stat(os.getpid())
    try:
        told = Path(f"/proc/{stat[1] if stat else 0}/environ").read_bytes().split(b"\0")
    except OSError:
        return found
    given = dict(os.fsdecode(entry).partition("=")[::2] for entry in told if entry)
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONPATH", "PYTHONBREAKPOINT"):
        if name in given:
            found[name] = given[name]
        else:
            found.pop(name, None)
    return found


def sweep(token: str, kill: bool) -> list[str]:
    """What carries a token on this node, killed first if asked to."""
    bound = time.monotonic() + 5.0
    while True:
        found = [entry for entry in carriers(token) if entry[0] != os.getpid()]
        if not kill or not found or time.monotonic() > bound:
            return [f"{socket.gethostname()}: process {pid}" for pid, _ in found]
        for pid, start_time in found:
            send_signal(pid, start_time, signal.SIGKILL)
        time.sleep(0.05)
