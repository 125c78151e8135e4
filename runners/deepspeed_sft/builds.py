"""DeepSpeed's operators are compiled at first use, for minutes and without a word: they say so.

Under autotune the note `preparing.RANK` in the trial's folder keeps the wait from being taken
for a hang or for training.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

from deepspeed.ops.op_builder.builder import OpBuilder

QUICK_S = 5.0
"""Loading an operator that was built before takes less."""


def announce_builds(quick_s: float = QUICK_S) -> None:
    """Every operator that takes longer than `quick_s` to load is announced from now on."""
    load = OpBuilder.jit_load

    def announced(self, verbose=True):
        with _announced(f"DeepSpeed compiles its operator {self.name} (minutes, once)", quick_s):
            return load(self, verbose)

    OpBuilder.jit_load = announced


@contextmanager
def _announced(what: str, quick_s: float) -> Iterator[None]:
    started = time.monotonic()
    folder = os.environ.get("AUTOTUNE_TRIAL_DIR")
    note = Path(folder, f"preparing.{os.environ.get('RANK', '0')}") if folder else None

    def tell() -> None:
        print(what, flush=True)
        if note:
            note.write_text(what)

    timer = Timer(quick_s, tell)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if note and note.exists():
            note.unlink()
            print(f"compiled after {time.monotonic() - started:.0f} s", flush=True)


def warn_of_build_locks() -> None:
    """Names the locks that a cut-off operator build left: the next build hangs on them."""
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR", Path.home() / ".cache/torch_extensions"))
    for lock in sorted(root.glob("**/lock")):
        print(
            f"warning: {lock} exists. If no operator is being built now, a build was cut off and "
            "the next one waits for ever: remove it, and prebuild (see deepspeed_sft/README.md)",
            flush=True,
        )
