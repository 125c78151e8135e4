"""What a Ray cluster has, told to a person whose gang waits for it."""

from __future__ import annotations

from collections.abc import Mapping


def amount(bundle: Mapping[str, float]) -> str:
    """A bundle in words: ``8 GPU and 1 CPU``."""
    return " and ".join(f"{value:g} {name}" for name, value in sorted(bundle.items(), reverse=True))


def why_pending(bundle: Mapping[str, float], nodes: int, aside: set[str]) -> str:
    """Which resources a gang of ``nodes`` bundles waits for, and whether the cluster has them."""
    import ray

    want = f"{nodes} node{'s' * (nodes > 1)} with {amount(bundle)}{' each' * (nodes > 1)}"
    alive = [node for node in ray.nodes() if node["Alive"]]
    usable = [node for node in alive if node["NodeID"] not in aside]
    fit = [node for node in usable if fits(node["Resources"], bundle)]
    if len(fit) >= nodes:
        free = ray.available_resources()
        left = ", ".join(f"{free.get(name, 0):g} {name}" for name in sorted(bundle, reverse=True))
        return f"waits for {want}: other work holds them (free in the whole cluster: {left})"
    if len([node for node in alive if fits(node["Resources"], bundle)]) >= nodes:
        raise RuntimeError(f"{want} are needed, but {len(aside)} of the nodes are set aside")
    most = [
        f"{max((node['Resources'].get(name, 0) for node in usable), default=0):g} {name}"
        for name in sorted(bundle, reverse=True)
    ]
    return (
        f"waits for {want}: {len(fit)} of the cluster's {len(usable)} nodes have that "
        f"(at most {' and '.join(most)} a node); an autoscaler or `ray start` can add some"
    )


def fits(resources: Mapping[str, float], bundle: Mapping[str, float]) -> bool:
    """Whether an empty node could hold a bundle."""
    return all(resources.get(name, 0) >= value for name, value in bundle.items())
