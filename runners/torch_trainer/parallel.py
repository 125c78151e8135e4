"""Why: ranks, sharding and compilation have to be put around a model in the right order."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Ranks:
    """This process among its peers, from torchrun's variables; one rank when they are absent."""

    rank: int
    world_size: int
    device: torch.device

    def mean(self, value: torch.Tensor) -> float:
        """The mean of a scalar over all ranks."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return float(value.item()) / self.world_size

    def maximum(self, value: float) -> float:
        """The largest of a number over all ranks."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return float(tensor.item())


def join_ranks(flags: Any) -> Ranks:
    """Choose the device and, in a gang or under FSDP2, start the process group."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    use_cuda = flags.device == "cuda" or (flags.device == "auto" and torch.cuda.is_available())
    device = torch.device("cpu")
    if use_cuda:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if world_size > 1:
        dist.init_process_group("nccl" if use_cuda else "gloo")
    elif flags.data_parallel == "fsdp2":
        store = dist.HashStore()
        dist.init_process_group("nccl" if use_cuda else "gloo", store=store, rank=0, world_size=1)
    return Ranks(rank, world_size, device)


def wrap(model: nn.Module, flags: Any, ranks: Ranks) -> nn.Module:
    """Shard or replicate ``model`` over the ranks and compile it; blocks are ``model.blocks``."""
    if flags.compile and flags.compile_scope == "block":
        for block in model.blocks:
            block.compile(mode=flags.compile_mode, dynamic=False)
    if flags.data_parallel == "fsdp2":
        _shard(model, flags)
    elif ranks.world_size > 1:
        model = DistributedDataParallel(
            model,
            bucket_cap_mb=flags.ddp_bucket_mb,
            static_graph=flags.ddp_static_graph,
            gradient_as_bucket_view=flags.ddp_gradient_as_bucket_view,
        )
    if flags.compile and flags.compile_scope == "model":
        model.compile(mode=flags.compile_mode, dynamic=False)
    return model


def _shard(model: nn.Module, flags: Any) -> None:
    policy = MixedPrecisionPolicy()
    if flags.precision == "bf16":
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=_DTYPES[flags.fsdp_reduce_dtype]
        )
    for block in model.blocks:
        fully_shard(block, mp_policy=policy, reshard_after_forward=flags.fsdp_reshard_after_forward)
    fully_shard(model, mp_policy=policy, reshard_after_forward=flags.fsdp_reshard_after_forward)


def accumulate(model: nn.Module, reduce: bool) -> AbstractContextManager[None]:
    """Around one micro batch: with ``reduce`` its gradients, and those before it, are reduced."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(reduce)
    elif isinstance(model, DistributedDataParallel) and not reduce:
        return model.no_sync()
    return nullcontext()
