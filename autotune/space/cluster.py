"""The machines a space is meant for: GPUs, hosts and links, every figure with its source."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Link(BaseModel):
    """A link as one GPU sees it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="", description="such as nvlink4, ib-ndr, pcie")
    gb_per_s: float = Field(gt=0, description="one direction, per GPU, 1e9 bytes/s")
    latency_us: float = Field(default=5.0, ge=0, description="of one message, microseconds")


class Hardware(BaseModel):
    """One kind of GPU and its usual host, as `search_spaces/hardware/NAME.yaml` gives it.

    Rates are dense peak rates (no sparsity); `sources` gives where each figure came from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    vendor: str = "nvidia"
    memory_gib: float = Field(gt=0, description="usable device memory, GiB (2**30 bytes)")
    memory_gb_per_s: float = Field(gt=0, description="device memory bandwidth, 1e9 bytes/s")
    tflops: dict[str, float] = Field(
        description="dense peak TFLOP/s by precision: fp32, tf32, fp16, bf16, fp8"
    )
    gpus_per_node: int = 8
    intra_node: Link
    inter_node: Link
    host_memory_gib: float = 1024.0
    host_link: Link = Link(name="pcie", gb_per_s=25.0)
    sms: int | None = None
    power_w: float | None = None
    sources: dict[str, str] = Field(default_factory=dict)


class Cluster(BaseModel):
    """The part of a space that says where it runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: int = Field(default=1, gt=0, description="machines in a trial")
    gpus_per_node: int = Field(default=1, gt=0, description="GPUs used on each of them")
    gpu: str = Field(default="", description="name of a file in `search_spaces/hardware/`")
    hardware: Hardware | None = Field(
        default=None, description="the contents of such a file, in place of `gpu`"
    )
    intra_node: Link | None = Field(
        default=None, description="link between the GPUs of a node, if not the hardware's own"
    )
    inter_node: Link | None = Field(
        default=None, description="link between nodes, if not the hardware's own"
    )

    @property
    def world_size(self) -> int:
        """GPUs in the whole cluster."""
        return self.nodes * self.gpus_per_node
