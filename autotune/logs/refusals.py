"""Tells a configuration that the program refused from a crash: by what it says and where.

An error that a check of the arguments raised is a refusal whatever its words: the innermost
frame of the traceback names the check. Elsewhere the message has to name a parameter and to
state a demand.
"""

from __future__ import annotations

import re

from autotune.logs.named_parameters import names_parameters, states_demand

MAX_RANKS = 4096

EXCEPTION = re.compile(r"(?:^|[\s\]:>|(])((?:\w+\.)*\w*(?:error|exception))\b(?:\(\w+\))?:? *(.*)$")
_REFUSALS = frozenset(
    {"assertionerror", "valueerror", "runtimeerror", "exception", "typeerror"}
    | {"notimplementederror", "misconfigurationexception", "elasticityconfigerror"}
)
_SOURCE_LINE = re.compile(r"\bassert\b|^\s")
_FRAME = re.compile(r"\bfile \"([^\"]*)\", line \d+, in (\S+)")
_CHECK = re.compile(
    r"^_*(?:validate|verify|check)_(?:\w+_)?(?:arg|config|param|batch|parallel|layout|flag)\w*$"
    r"|^_*validate$|^__post_init__$|^_*do_\w*check$|^_*batch_assertion$|^_*parallelize_\w+$"
)
"""Functions that hold a configuration against rules: Megatron's, DeepSpeed's, torchtitan's, and
those of dataclasses."""


class Refusals:
    """Feed it the frames of tracebacks; it knows for each rank where the last error was raised."""

    def __init__(self) -> None:
        self._checking: set[int] = set()

    def feed_frame(self, lowered: str, rank: int) -> None:
        """Takes a line of a traceback, in lower case; one that is no frame changes nothing."""
        frame = _FRAME.search(lowered)
        if frame is None:
            return
        if _CHECK.search(frame[2]) is None:
            self._checking.discard(rank)
        elif len(self._checking) < MAX_RANKS:
            self._checking.add(rank)

    def parameters(self, lowered: str, rank: int, previous: str) -> tuple[str, ...] | None:
        """The parameters of a refused configuration, perhaps none; None for another error.

        ``previous`` is the line before: the source line speaks for an assertion without words.
        """
        raised = EXCEPTION.search(lowered)
        if raised is None:
            return None
        checked = rank in self._checking
        self._checking.discard(rank)
        name, message = raised[1].rpartition(".")[2], raised[2]
        if name not in _REFUSALS:
            return None
        if not message and name == "assertionerror":
            message = previous if _SOURCE_LINE.search(previous) else ""
        demands = states_demand(message)
        if checked and (demands or name != "runtimeerror"):
            return names_parameters(message)
        named = names_parameters(message) if demands else ()
        return named if named or (demands and name == "assertionerror") else None
