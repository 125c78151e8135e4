"""Which rank a line is from: launchers put it in front of the line in a dozen ways."""

from __future__ import annotations

import re

_NAMED = re.compile(
    r"\s*(?:"
    r"\[(?:rank|default|Rank |RANK |Rank|RANK)(?P<a>\d+)\]:?"  # torch, torchrun --tee, DeepSpeed
    r"|\[\d+,(?P<b>\d+)\]<std(?:out|err)>:?"  # mpirun --tag-output
    r"|(?:[\w.-]*-)?(?:worker|rank|node|launcher)[-_ ]?(?P<c>\d+) ?[:|] ?"  # pdsh, kubernetes
    r"|\S{1,60}/\d+ \[default(?P<d>\d+)\]:"  # nemo-run
    r") ?"
)
_BARE = re.compile(r"\s{0,5}(?P<a>\d{1,5}): ")  # srun --label
_NAMED_STARTS = frozenset("[wrnlWRNL")


def split_rank(line: str, bare: bool = True) -> tuple[int | None, str]:
    """The rank that a line's prefix names (None: no prefix) and the line without it.

    ``bare`` reads srun's ``12: `` too, which a program of the user's own may mean otherwise.
    """
    first = line.lstrip()[:1]
    if first.isdigit():
        found = _BARE.match(line) if bare else None
        if found is None and "default" in line:
            found = _NAMED.match(line)
    elif first in _NAMED_STARTS or " [default" in line:
        found = _NAMED.match(line)
    else:
        return None, line
    if found is None:
        return None, line
    rank = next(group for group in found.groups() if group is not None)
    return int(rank), line[found.end() :]
