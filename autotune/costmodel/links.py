"""Collectives by size, algorithm and link: NVLink inside a node, the network across nodes.

Groups are placed as every framework places them: tensor parallel innermost, then context,
then data, pipeline outermost. All times in seconds, sizes in bytes, n values each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotune.space.cluster import Cluster, Link

Floats = npt.NDArray[np.float64]
WAIT_FOR_PEERS = 5.0
"""A collective in a layer starts once its last rank has arrived: several times the bare latency."""


@dataclass(frozen=True)
class Fabric:
    """Bandwidth in bytes/s and latency in s of both link levels, and the size of a node."""

    gpus_per_node: int
    intra: Link
    inter: Link

    @classmethod
    def of(cls, cluster: Cluster) -> Fabric:
        """The cluster's own links where it states them, else its hardware's usual ones."""
        hardware = cluster.hardware
        if hardware is None:
            raise ValueError("a cluster without hardware has no fabric")
        return cls(
            cluster.gpus_per_node,
            cluster.intra_node or hardware.intra_node,
            cluster.inter_node or hardware.inter_node,
        )

    def crosses(self, ranks: Floats, stride: Floats) -> npt.NDArray[np.bool_]:
        """Whether a group of ``ranks`` at a distance of ``stride`` leaves its node."""
        return (ranks > 1) & (ranks * stride > self.gpus_per_node)

    def nodes(self, ranks: Floats, stride: Floats) -> Floats:
        """How many nodes a group of ``ranks`` at a distance of ``stride`` spans."""
        local = np.clip(self.gpus_per_node / stride, 1.0, ranks)
        return np.asarray(np.maximum(ranks / local, 1.0))

    def bandwidth(self, ranks: Floats, stride: Floats) -> Floats:
        """Bus bandwidth of a ring in bytes/s.

        Across nodes the ranks that share a node share its ports: each brings its own, up to
        what the links inside the node carry.
        """
        local = np.clip(self.gpus_per_node / stride, 1.0, ranks)
        across = np.minimum(local**0.7 * self.inter.gb_per_s, self.intra.gb_per_s)
        return 1e9 * np.where(self.crosses(ranks, stride), across, self.intra.gb_per_s)

    def latency(self, ranks: Floats, stride: Floats) -> Floats:
        """Start-up of one reduce-scatter or all-gather in s: a ring hops once per neighbour."""
        nodes = self.nodes(ranks, stride)
        inside = WAIT_FOR_PEERS * self.intra.latency_us * (1.0 + 0.3 * (ranks / nodes - 1.0))
        across = 4.0 * self.inter.latency_us * (nodes - 1.0)
        return np.where(ranks > 1, 1e-6 * (inside + across), 0.0)

    def half_collective(self, size: Floats, ranks: Floats, stride: Floats) -> Floats:
        """Transfer time in s of an all-gather or reduce-scatter of ``size`` bytes in all."""
        return size * (ranks - 1.0) / np.maximum(ranks, 1.0) / self.bandwidth(ranks, stride)

    def point_to_point(self, size: Floats, stride: Floats) -> Floats:
        """Transfer time in s between neighbours ``stride`` ranks apart."""
        outside = stride >= self.gpus_per_node
        rate = np.where(outside, self.inter.gb_per_s, self.intra.gb_per_s)
        delay = np.where(outside, self.inter.latency_us, self.intra.latency_us)
        return size / (rate * 1e9) + delay * 1e-6
