"""A few steady steps under a profiler, for `autotune profile`: a trace file, or an nsys range."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

SKIPPED_STEPS = 3
PROFILED_STEPS = 2


@contextmanager
def step_profiler(kind: str | None, folder: Path, rank: int) -> Iterator[Callable[[], None]]:
    """Yields what to call after every step; `kind` is None, 'torch' or 'nsys'.

    'torch' writes a Chrome trace `folder/trace.rank<k>.json` of steps 4 and 5; 'nsys' opens and
    closes the CUDA profiler range around them (run under `nsys --capture-range=cudaProfilerApi`).
    """
    if kind == "torch":
        folder.mkdir(parents=True, exist_ok=True)
        schedule = torch.profiler.schedule(
            wait=SKIPPED_STEPS - 1, warmup=1, active=PROFILED_STEPS, repeat=1
        )
        with torch.profiler.profile(
            schedule=schedule,
            on_trace_ready=lambda trace: trace.export_chrome_trace(
                str(folder / f"trace.rank{rank}.json")
            ),
            profile_memory=True,
        ) as profiler:
            yield profiler.step
    elif kind == "nsys":
        yield _range_counter()
    else:
        yield lambda: None


def _range_counter() -> Callable[[], None]:
    done = 0

    def after_step() -> None:
        nonlocal done
        done += 1
        if not torch.cuda.is_available():
            return
        if done == SKIPPED_STEPS:
            torch.cuda.profiler.start()
        elif done == SKIPPED_STEPS + PROFILED_STEPS:
            torch.cuda.profiler.stop()

    return after_step
