"""Which rank a line is from: launchers put it in front of the line in a dozen ways."""

from __future__ import annotations

import re

_NAMED = re.compile(
    r"\s*(?:"
    r"\[(?:rank|default|Rank |RANK |Rank|RANK)(?P<a>\d+)\]:?"  # torch, torchrun --tee, DeepSpeed
    r"|\[\d+,(?P<b>\d+)\]<std(?:out|err)>:?"  # mpirun --tag-output
    r"|(?:[\w.-]{1,60}-)?(?:worker|rank|node|launcher)[-_ ]?(?P<c>\d+) ?[:|] ?"  # pdsh, kubernetes
    r"|\S{1,60}/\d+ \[default(?P<d>\d+)\]:"  # nemo-run
    r") ?"
)
_BARE = re.compile(r"\s{0,5}(?P<a>\d{1,5}): ")  # srun --label


def find_rank(line: str, bare: bool = True) -> tuple[tuple[int, int] | None, int]:
    """Where a line's prefix names its rank (None: no prefix), and where the rest begins.

    ``bare`` reads srun's ``12: `` too, which a program of the user's own may mean otherwise.
    """
    found = _NAMED.match(line) or (_BARE.match(line) if bare else None)
    if found is None:
        return None, 0
    return found.span(found.lastindex or 0), found.end()
