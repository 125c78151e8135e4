"""The one place that reads NVIDIA GPUs: memory and who holds it, clocks, throttling, ECC.

Why ctypes and not nvidia-ml-py: the same file runs beside ``supervisor.py`` on nodes that have
a bare ``python3 -I -S``. A seam for tests: everything that decides takes ``read`` (a function
that returns a list of Gpu), and the library's name comes from AUTOTUNE_NVML_LIBRARY. Structures
and constants: NVIDIA's ``nvml.h`` (NVML API Reference, "Device Queries").
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

GIB = float(2**30)
UNKNOWN_BYTES = 2**64 - 1
SAMPLE_PERIOD_S = 1.0
LAST_LOOK_S = 2.0
RELEASE_TOLERANCE_GIB = 0.5
THROTTLE_REASONS = {
    0x04: "sw_power_cap",
    0x08: "hw_slowdown",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake",
}
SLOWDOWNS = frozenset(THROTTLE_REASONS.values()) - {"sw_power_cap"}
"""What slows a GPU beyond its power limit, at which every busy one runs."""


@dataclass(frozen=True)
class Holder:
    """A process with a context on a GPU; ``gib`` is None where the driver does not tell."""

    pid: int
    gib: float | None


@dataclass(frozen=True)
class Gpu:
    """One GPU's picture now; figures are None where the driver does not tell them."""

    index: int
    uuid: str
    name: str = ""
    total_gib: float | None = None
    used_gib: float | None = None
    holders: tuple[Holder, ...] = ()
    utilization: float | None = None
    sm_clock_mhz: int | None = None
    max_sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    throttle: tuple[str, ...] = ()
    ecc_uncorrected: int | None = None


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class _Utilization(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint) for name in ("gpu", "memory")]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class Nvml:
    """An initialised NVML library. OSError when it is missing or refuses."""

    def __init__(self) -> None:
        name = os.environ.get("AUTOTUNE_NVML_LIBRARY", "libnvidia-ml.so.1")
        self._library = ctypes.CDLL(name)
        if self._call("nvmlInit_v2") != 0:
            raise OSError(f"{name}: nvmlInit_v2 failed")

    def _call(self, function: str, *arguments: Any) -> int:
        try:
            return int(getattr(self._library, function)(*arguments))
        except AttributeError:
            return -1

    def _number(self, function: str, kind: Any, *arguments: Any) -> int | None:
        value = kind()
        failed = self._call(function, *arguments, ctypes.byref(value))
        return None if failed else int(value.value)

    def _text(self, function: str, device: ctypes.c_void_p) -> str:
        buffer = ctypes.create_string_buffer(96)
        failed = self._call(function, device, buffer, ctypes.c_uint(96))
        return "" if failed else buffer.value.decode(errors="replace")

    def _holders(self, device: ctypes.c_void_p) -> tuple[Holder, ...]:
        count = ctypes.c_uint(256)
        processes = (_Process * 256)()
        name = "nvmlDeviceGetComputeRunningProcesses_v3"
        if self._call(name, device, ctypes.byref(count), processes):
            return ()
        found = processes[: count.value]
        return tuple(
            Holder(entry.pid, None if entry.used == UNKNOWN_BYTES else entry.used / GIB)
            for entry in found
        )

    def gpu(self, index: int) -> Gpu | None:
        """The picture of one GPU; None when it cannot be opened (fallen off the bus)."""
        device = ctypes.c_void_p()
        handle = ctypes.byref(device)
        if self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), handle):
            return None
        memory, busy = _Memory(), _Utilization()
        has_memory = not self._call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
        has_busy = not self._call("nvmlDeviceGetUtilizationRates", device, ctypes.byref(busy))
        uint, wide = ctypes.c_uint, ctypes.c_ulonglong
        reasons = self._number("nvmlDeviceGetCurrentClocksThrottleReasons", wide, device) or 0
        power = self._number("nvmlDeviceGetPowerUsage", uint, device)
        return Gpu(
            index=index,
            uuid=self._text("nvmlDeviceGetUUID", device),
            name=self._text("nvmlDeviceGetName", device),
            total_gib=memory.total / GIB if has_memory else None,
            used_gib=memory.used / GIB if has_memory else None,
            holders=self._holders(device),
            utilization=busy.gpu / 100.0 if has_busy else None,
            sm_clock_mhz=self._number("nvmlDeviceGetClockInfo", uint, device, uint(1)),
            max_sm_clock_mhz=self._number("nvmlDeviceGetMaxClockInfo", uint, device, uint(1)),
            temperature_c=self._number("nvmlDeviceGetTemperature", uint, device, uint(0)),
            power_w=None if power is None else power / 1000.0,
            throttle=tuple(name for bit, name in THROTTLE_REASONS.items() if reasons & bit),
            ecc_uncorrected=self._number(
                "nvmlDeviceGetTotalEccErrors", wide, device, uint(1), uint(0)
            ),
        )

    def gpus(self) -> list[Gpu]:
        """All GPUs of this host that can be opened."""
        count = self._number("nvmlDeviceGetCount_v2", ctypes.c_uint) or 0
        found = (self.gpu(index) for index in range(count))
        return [gpu for gpu in found if gpu is not None]


_opened: list[Nvml] = []


def read_gpus() -> list[Gpu]:
    """The GPUs of this host now; empty where there is no NVML."""
    if not _opened:
        try:
            _opened.append(Nvml())
        except OSError:
            return []
    return _opened[0].gpus()


def wait_released(
    before: Iterable[Gpu],
    bound_s: float,
    read: Callable[[], list[Gpu]] = read_gpus,
    tolerance_gib: float = RELEASE_TOLERANCE_GIB,
    period_s: float = 0.5,
) -> list[str]:
    """Wait until the GPUs hold no more than ``before``; a sentence for each that still does.

    ``before`` is the picture taken before the gang started, of the GPUs that it got. Returns
    ``[]`` as soon as all are released, at the latest after ``bound_s`` seconds.
    """
    baseline = {gpu.uuid: gpu.used_gib or 0.0 for gpu in before}
    bound = time.monotonic() + bound_s
    while baseline:
        held = []
        for gpu in read():
            excess = (gpu.used_gib or 0.0) - baseline.get(gpu.uuid, float("inf"))
            if excess > tolerance_gib:
                pids = ", ".join(str(holder.pid) for holder in gpu.holders) or "unknown"
                held.append(
                    f"GPU {gpu.index} ({gpu.uuid}) still holds {excess:.1f} GiB; pids: {pids}"
                )
        if not held or time.monotonic() >= bound:
            return held
        time.sleep(min(period_s, max(0.0, bound - time.monotonic())))
    return []


def parent_of(pid: int) -> int:
    """The parent of a process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rsplit(b")", 1)[1].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def descends(pid: int, root: int) -> bool:
    """Whether a process is ``root`` or below it."""
    for _ in range(64):
        if pid == root:
            return True
        if pid <= 1:
            return False
        pid = parent_of(pid)
    return False


class Sampler:
    """What the GPUs did while the processes below ``root_pid`` ran, and how they were around it.

    Peak memory and mean utilisation per GPU; how often it was throttled; who else was on it; its
    picture before and after. Where the driver names our processes, their memory is summed; where
    it does not (another pid namespace), what the GPU holds beyond its least reading counts
    (``attributed`` false), and only who was there before us is a stranger. ``visible`` names the
    gang's GPUs by index or UUID, where they are known; otherwise those that it touched count.
    """

    def __init__(
        self,
        root_pid: int,
        read: Callable[[], list[Gpu]] = read_gpus,
        visible: Iterable[str] = (),
        token: str = "",
    ) -> None:
        self._root = root_pid
        self._mark = f"AUTOTUNE_TOKEN={token}".encode()
        self._read = read
        self._visible = frozenset(visible)
        self._least: dict[str, float] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def sample(self) -> None:
        """Take one reading of all GPUs."""
        for gpu in self._read():
            used = gpu.used_gib or 0.0
            least = self._least[gpu.uuid] = min(used, self._least.get(gpu.uuid, used))
            ours = [holder for holder in gpu.holders if descends(holder.pid, self._root)]
            attributed = bool(ours) and all(holder.gib is not None for holder in ours)
            held = sum(holder.gib or 0.0 for holder in ours) if attributed else used - least
            told = self._told.setdefault(gpu.uuid, first_sight(gpu, ours))
            there_before = set(told["before"]["pids"])
            others = {holder.pid for holder in gpu.holders if holder not in ours}
            others = {pid for pid in others if not carries(pid, self._mark)}
            strangers = others if attributed else others & there_before
            if told["samples"] == 0:
                strangers = set()  # one that is just leaving is no neighbour yet
            if attributed and not told["attributed"]:
                told.update(attributed=True, peak_gib=0.0)
            if attributed or not told["attributed"]:
                told["peak_gib"] = max(told["peak_gib"], held)
            told["samples"] += 1
            told["busy"] += gpu.utilization or 0.0
            told["throttle"] = sorted({*told["throttle"], *gpu.throttle})
            told["slowed"] += int(bool(SLOWDOWNS.intersection(gpu.throttle)))
            told["strangers"] = sorted({*told["strangers"], *strangers})[:16]
            told["after"] = picture(gpu, ours)
            clocks = [c for c in (told["sm_clock_mhz"], gpu.sm_clock_mhz) if c is not None]
            told["sm_clock_mhz"] = max(clocks, default=None)

    def record(self) -> list[dict[str, Any]]:
        """What was seen of each GPU of the gang, after a last look at it (for two seconds)."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join(LAST_LOOK_S)
        touched = []
        for told in list(self._told.values()):
            if self._is_ours(told):
                entry = {name: told[name] for name in told if name not in ("busy", "slowed")}
                entry["utilization"] = told["busy"] / told["samples"]
                entry["throttled_share"] = told["slowed"] / told["samples"]
                touched.append(entry)
        return touched

    def _is_ours(self, told: dict[str, Any]) -> bool:
        """Whether the gang was given this GPU; where that is not known, whether it used it."""
        known = [gpu for gpu in self._told.values() if self._visible & names_of(gpu)]
        if known:
            return bool(self._visible & names_of(told))
        return bool(told["peak_gib"] > 0.0)

    def start(self) -> None:
        """Sample in a thread of its own: a driver that hangs must not stop the supervisor."""
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Sample until the end is told; a driver that fails ends the sampling, nothing else."""
        ended = False
        while True:
            try:
                self.sample()
            except (OSError, ValueError, RuntimeError):
                return
            if ended:
                return
            ended = self._ended.wait(SAMPLE_PERIOD_S)


def carries(pid: int, mark: bytes) -> bool:
    """Whether a process has an entry in its environment: another rank of the same gang does."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def picture(gpu: Gpu, ours: Iterable[Holder] = ()) -> dict[str, Any]:
    """How a GPU stands: clock, heat, power, throttling, ECC, memory, and the other processes."""
    return {
        "sm_clock_mhz": gpu.sm_clock_mhz,
        "max_sm_clock_mhz": gpu.max_sm_clock_mhz,
        "temperature_c": gpu.temperature_c,
        "power_w": gpu.power_w,
        "throttle": list(gpu.throttle),
        "ecc_uncorrected": gpu.ecc_uncorrected,
        "used_gib": gpu.used_gib,
        "pids": sorted({holder.pid for holder in gpu.holders} - {h.pid for h in ours})[:16],
    }


def first_sight(gpu: Gpu, ours: Iterable[Holder]) -> dict[str, Any]:
    """A GPU's entry before anything was sampled."""
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "total_gib": gpu.total_gib,
        "peak_gib": 0.0,
        "attributed": False,
        "samples": 0,
        "busy": 0.0,
        "slowed": 0,
        "throttle": [],
        "strangers": [],
        "sm_clock_mhz": gpu.sm_clock_mhz,
        "before": picture(gpu, ours),
    }


def names_of(told: dict[str, Any]) -> set[str]:
    """What a GPU may be called in CUDA_VISIBLE_DEVICES."""
    return {str(told["index"]), str(told["uuid"])}


def start_sampler(root_pid: int, visible: Iterable[str], token: str) -> Sampler:
    """A sampler at work; its first look comes before the ranks have come to use a GPU."""
    sampler = Sampler(root_pid, visible=visible, token=token)
    sampler.start()
    return sampler
