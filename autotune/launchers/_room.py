"""How many gangs of one shape a place holds at once, by what each of its nodes has room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def slots(has: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """How often a node's resources serve one gang's need of a node; 0 where it needs nothing."""
    amounts = [int(has.get(name, 0.0) // need) for name, need in needs.items() if need > 0.0]
    return min(amounts, default=0)


def gangs_that_fit(slots_of_nodes: Sequence[int], nodes: int) -> int:
    """The most gangs, each on ``nodes`` different nodes, that ``slots_of_nodes`` allow at once.

    So many fit when no gang needs one node twice: ``g`` gangs draw at most ``g`` slots a node.
    """
    fits = 0
    while sum(min(slot, fits + 1) for slot in slots_of_nodes) >= (fits + 1) * nodes:
        fits += 1
    return fits
