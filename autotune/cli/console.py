"""The two consoles: results on stdout, talk on stderr; plain when not a terminal.

Neither reads markup: what a trial printed may hold brackets, and is shown as it is.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


WARN = "bold yellow"


@functools.cache
def out() -> Console:
    """The console of results."""
    from rich.console import Console

    return Console(
        file=sys.stdout, highlight=False, markup=False, soft_wrap=not sys.stdout.isatty()
    )


@functools.cache
def talk() -> Console:
    """The console of everything else."""
    from rich.console import Console

    return Console(
        file=sys.stderr, highlight=False, markup=False, soft_wrap=not sys.stderr.isatty()
    )


def print_json(value: Any) -> None:
    """JSON and nothing else on stdout."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")
