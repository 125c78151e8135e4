"""The facts of a job that no search changes, and the conventions of the framework that runs it.

What a framework keeps in memory (gradient and master-weight precision, how pipeline stages are
cut) and what it overlaps is knowledge about that framework, never about one model or cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autotune.errors import BadInput

StageCut = Literal["even", "by_cost"]
ReportedRank = Literal["peak", "last", "first"]


@dataclass(frozen=True)
class Workload:
    """What is trained and how: batch in sequences, length in tokens, precision by name.

    ``trainable_share`` is the part of the parameters that is trained: small with adapters.
    """

    global_batch_size: int
    seq_length: int
    precision: str = "bf16"
    optimizer: str = "adam"
    framework: str = "generic"
    trainable_share: float = 1.0


@dataclass(frozen=True)
class Conventions:
    """How one framework stores states and overlaps work; bytes are per parameter.

    ``weight_bytes`` is the stored weight (None: the precision's own size), ``gradient_bytes`` the
    persistent accumulation buffer, ``bucket_bytes`` the reducer's own copy of gradients when
    there is data parallelism, ``master_bytes`` the fp32 copy, ``moment_bytes`` both moments.
    ``zero_stage`` is the default when a column does not say. ``late_freed_tensors``
    counts the whole tensors of a layer that its collectives hold on a side stream;
    ``norm_copy_bytes`` what unfused norms save besides, per hidden element; ``logit_bytes`` the
    loss's copies of each logit on a tensor-parallel shard, ``whole_logit_bytes`` unsharded;
    ``selective_by_operator``: selective recomputation keeps attention's output and every second
    matrix product, and does all else again; otherwise only materialised scores.
    ``gathered_in_pipelines``: ZeRO-3's weights and gradients stay whole from a step's first
    micro batch to its last where there are pipeline stages.
    ``retries_when_full``:
    frees on side streams make the allocator flush and retry near the limit.
    ``hand_over_wait_s`` is what the host waits for each neighbour's message sizes in pipelines
    over very many nodes.
    ``overlap_*`` are the default fractions of communication hidden behind computation;
    ``overlap_sharded`` is what of it is left where ZeRO-1 scatters gradients.
    ``stage_cut`` says how layers are given to pipeline stages: evenly, or by compute cost
    with the output head counted. ``reported_rank`` is the pipeline stage whose memory the
    framework's log shows.
    """

    name: str
    weight_bytes: float | None = None
    gradient_bytes: float = 4.0
    bucket_bytes: float = 0.0
    master_bytes: float = 4.0
    moment_bytes: float = 8.0
    zero_stage: int = 0
    attention_backend: str = "flash"
    sequence_parallel: bool = False
    overlap_data_parallel: float = 0.7
    overlap_sharded: float = 1.0
    overlap_tensor_parallel: float = 0.0
    fused_kernels: bool = True
    late_freed_tensors: int = 0
    norm_copy_bytes: float = 8.0
    logit_bytes: float = 10.0
    whole_logit_bytes: float = 0.0
    selective_by_operator: bool = False
    gathered_in_pipelines: bool = False
    retries_when_full: bool = False
    hand_over_wait_s: float = 0.0
    vocab_divisor: int = 128
    stage_cut: StageCut = "even"
    reported_rank: ReportedRank = "peak"


CONVENTIONS = {
    item.name: item
    for item in (
        Conventions("generic"),
        Conventions("megatron", attention_backend="auto", sequence_parallel=True),
        Conventions(
            "nanotron", sequence_parallel=True, stage_cut="by_cost", vocab_divisor=1,
            fused_kernels=False, reported_rank="first", bucket_bytes=2.0, overlap_data_parallel=1.0,
            late_freed_tensors=2, retries_when_full=True, hand_over_wait_s=0.55,
            overlap_sharded=0.0,
        ),
        Conventions(
            "aleph-alpha", gradient_bytes=2.0, zero_stage=1, vocab_divisor=1, fused_kernels=False,
            norm_copy_bytes=20.0, logit_bytes=0.0, whole_logit_bytes=19.0,
        ),
        Conventions(
            "sailor", attention_backend="fused_softmax", fused_kernels=False,
            sequence_parallel=False,
        ),
        Conventions("deepspeed", gradient_bytes=2.0, vocab_divisor=1, fused_kernels=False),
        Conventions(
            "fsdp", weight_bytes=4.0, master_bytes=0.0, zero_stage=3, vocab_divisor=1,
            fused_kernels=False, logit_bytes=0.0, whole_logit_bytes=14.0,
        ),
        Conventions(
            "torchtitan", weight_bytes=4.0, master_bytes=0.0, zero_stage=3, vocab_divisor=1,
            sequence_parallel=True, fused_kernels=False, logit_bytes=14.0,
            selective_by_operator=True, gathered_in_pipelines=True,
        ),
        Conventions(
            "llm-foundry", weight_bytes=4.0, master_bytes=0.0, zero_stage=3, vocab_divisor=1,
            logit_bytes=0.0, whole_logit_bytes=14.0,
        ),
        Conventions(
            "hf", weight_bytes=4.0, master_bytes=0.0, vocab_divisor=1, fused_kernels=False,
            logit_bytes=0.0, whole_logit_bytes=14.0,
        ),
        Conventions("nemo", attention_backend="auto", sequence_parallel=True),
    )
}  # fmt: skip

_FAMILY = {
    "primus": "megatron",
    "megatron-bridge": "megatron",
    "mcore": "megatron",
    "accelerate": "hf",
    "gpt_torch": "hf",
    "torch": "hf",
}


def conventions_for(framework: str) -> Conventions:
    """Conventions by framework name; an unlisted name gets the generic ones.

    A name matches its family when it starts with one (``megatron_lm``, ``deepspeed-z3``).
    """
    wanted = framework.lower()
    wanted = _FAMILY.get(wanted, wanted)
    for name in sorted(CONVENTIONS, key=len, reverse=True):
        if wanted.startswith(name):
            return CONVENTIONS[name]
    return CONVENTIONS["generic"]


def element_bytes(precision: str) -> float:
    """Bytes of one weight or activation element; BadInput for an unknown precision."""
    sizes = {"fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 2.0, "fp4": 2.0}
    key = normal_precision(precision)
    if key not in sizes:
        raise BadInput.unknown("precision", precision, sizes)
    return sizes[key]


def normal_precision(precision: str) -> str:
    """The hardware table's name for a precision (``amp_bf16`` is bf16, ``MXFP8`` is fp8)."""
    text = precision.lower()
    for mark, name in (
        ("fp4", "fp4"), ("fp8", "fp8"), ("float8", "fp8"), ("bf16", "bf16"), ("bfloat16", "bf16"),
        ("fp16", "fp16"), ("float16", "fp16"), ("half", "fp16"), ("tf32", "tf32"),
        ("fp32", "fp32"), ("float32", "fp32"),
    ):  # fmt: skip
        if mark in text:
            return name
    return text
