"""What launchers put in front of a line: a rank, in a dozen ways, or only where it comes from."""

from __future__ import annotations

import re

_ORIGIN = re.compile(
    r"\([\w.:]{1,60} pid=\d+(?:, ip=[\w.:]+)?\) ?"  # Ray
    r"|\[pod/[\w./-]+\] ?"  # kubectl logs --prefix
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) "  # docker logs --timestamps
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S{1,60} [\w.@-]{1,60}\[\d+\]: "  # journalctl
)
_NAMED = re.compile(
    r"\s*(?:"
    r"\[(?:rank|default|Rank |RANK |Rank|RANK)(?P<a>\d{1,9})\]:?"  # torch, torchrun, DeepSpeed
    r"|\[\d+,(?P<b>\d{1,9})\]<std(?:out|err)>:?"  # mpirun --tag-output
    r"|(?:[\w.-]{1,60}-)?(?:worker|rank|node|launcher)[-_ ]?(?P<c>\d{1,9}) ?[:|] ?"  # pdsh
    r"|\S{1,60}/\d+ \[default(?P<d>\d{1,9})\]:"  # nemo-run
    r") ?"
)
_BARE = re.compile(r"\s{0,5}(?P<a>\d{1,5}): ")  # srun --label


def find_rank(line: str, bare: bool = True) -> tuple[tuple[int, int] | None, int]:
    """Where a line's prefix names its rank (None: it does not), and where the rest begins.

    ``bare`` reads srun's ``12: `` too, which a program of the user's own may mean otherwise.
    """
    origin = _ORIGIN.match(line)
    start = origin.end() if origin else 0
    found = _NAMED.match(line, start) or (_BARE.match(line, start) if bare else None)
    if found is None:
        return None, start
    return found.span(found.lastindex or 0), found.end()
