"""Canonical parameters and Megatron-LM's flags, one table read in both directions.

Rendering and reading back share the table, so that a value cannot be written one way and read
another. Every flag here is in the parsers of Megatron-LM core_v0.12 to core_v0.19 and of its
main branch of August 2026 (`scripts/check_megatron_args.py` runs those parsers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from autotune.config import ParameterValue
from autotune.errors import BadInput

Kind = Literal["integer", "word", "words", "switch", "off_switch"]


@dataclass(frozen=True)
class Flag:
    """How one canonical parameter is said to Megatron-LM.

    ``integer`` and ``word`` take one argument, ``words`` a ``+``-joined list as several;
    ``switch`` stands for True, ``off_switch`` for False. ``default`` is what Megatron-LM does
    when the flag is absent, and a value equal to ``silent`` is said by leaving the flag out.
    """

    name: str
    flag: str
    kind: Kind
    default: ParameterValue = None
    choices: tuple[str, ...] = ()
    silent: ParameterValue = None

    def render(self, value: ParameterValue) -> list[str]:
        """The arguments for a value; BadInput when Megatron-LM has no way to say it."""
        if value is None or (self.silent is not None and _same(value, self.silent)):
            return []
        if self.kind in ("switch", "off_switch"):
            if not isinstance(value, bool):
                raise self._cannot(value, "true or false")
            return [self.flag] if value is (self.kind == "switch") else []
        if self.kind == "integer":
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise self._cannot(value, "a whole number")
            if not self._allowed(str(value)):
                raise self._cannot(value, "one of " + ", ".join(self.choices))
            return [self.flag, str(value)]
        parts = str(value).split("+") if self.kind == "words" else [str(value)]
        if not all(isinstance(value, str) and self._allowed(part) for part in parts):
            raise self._cannot(value, "one of " + ", ".join(self._known()))
        return [self.flag, *parts]

    def read(self, arguments: Mapping[str, Sequence[str]]) -> ParameterValue:
        """The value that parsed arguments give this parameter."""
        given = arguments.get(self.flag)
        if self.kind in ("switch", "off_switch"):
            return (given is not None) is (self.kind == "switch")
        if given is None:
            return self.silent if self.silent is not None else self.default
        if self.kind == "integer":
            return int(given[0])
        return "+".join(given)

    def _known(self) -> tuple[str, ...]:
        silent = (str(self.silent),) if self.silent is not None else ()
        return (*self.choices, *silent)

    def _allowed(self, part: str) -> bool:
        return not self.choices or part in self.choices

    def _cannot(self, value: ParameterValue, wanted: str) -> BadInput:
        return BadInput(
            f"parameters.{self.name}: Megatron-LM cannot express {value!r}; its {self.flag} "
            f"takes {wanted}."
        )


def _same(value: ParameterValue, other: ParameterValue) -> bool:
    return type(value) is type(other) and value == other


_RECOMPUTE_MODULES = ("core_attn", "layernorm", "mlp", "mla_up_proj", "moe", "moe_act")

FLAGS: tuple[Flag, ...] = (
    Flag("tensor_model_parallel_size", "--tensor-model-parallel-size", "integer", 1),
    Flag("pipeline_model_parallel_size", "--pipeline-model-parallel-size", "integer", 1),
    Flag(
        "virtual_pipeline_model_parallel_size", "--num-virtual-stages-per-pipeline-rank",
        "integer", 1, silent=1,
    ),
    Flag("context_parallel_size", "--context-parallel-size", "integer", 1),
    Flag("cp_comm_type", "--cp-comm-type", "word", "p2p", ("p2p", "all_gather", "a2a")),
    Flag("expert_model_parallel_size", "--expert-model-parallel-size", "integer", 1),
    Flag("expert_tensor_parallel_size", "--expert-tensor-parallel-size", "integer"),
    Flag("micro_batch_size", "--micro-batch-size", "integer", 1),
    Flag("global_batch_size", "--global-batch-size", "integer"),
    Flag("sequence_parallel", "--sequence-parallel", "switch", False),
    Flag(
        "recompute_granularity", "--recompute-granularity", "word", "none",
        ("full", "selective"), silent="none",
    ),
    Flag("recompute_method", "--recompute-method", "word", None, ("uniform", "block")),
    Flag("recompute_num_layers", "--recompute-num-layers", "integer"),
    Flag("recompute_modules", "--recompute-modules", "words", None, _RECOMPUTE_MODULES),
    Flag("distribute_saved_activations", "--distribute-saved-activations", "switch", False),
    Flag("use_distributed_optimizer", "--use-distributed-optimizer", "switch", False),
    Flag("overlap_grad_reduce", "--overlap-grad-reduce", "switch", False),
    Flag("overlap_param_gather", "--overlap-param-gather", "switch", False),
    Flag("overlap_p2p_communication", "--no-overlap-p2p-communication", "off_switch", True),
    Flag("ddp_bucket_size", "--ddp-bucket-size", "integer"),
    Flag(
        "empty_unused_memory_level", "--empty-unused-memory-level", "integer", 0, ("0", "1", "2")
    ),
    Flag("tp_comm_overlap", "--tp-comm-overlap", "switch", False),
    Flag(
        "gradient_accumulation_fusion", "--no-gradient-accumulation-fusion", "off_switch", True
    ),
    Flag("cross_entropy_loss_fusion", "--cross-entropy-loss-fusion", "switch", False),
    Flag("defer_embedding_wgrad_compute", "--defer-embedding-wgrad-compute", "switch", False),
    Flag(
        "attention_backend", "--attention-backend", "word", "auto",
        ("flash", "fused", "unfused", "auto"),
    ),
    Flag("use_precision_aware_optimizer", "--use-precision-aware-optimizer", "switch", False),
    Flag("optimizer_cpu_offload", "--optimizer-cpu-offload", "switch", False),
    Flag("moe_grouped_gemm", "--moe-grouped-gemm", "switch", False),
    Flag("moe_permute_fusion", "--moe-permute-fusion", "switch", False),
    Flag("moe_shared_expert_overlap", "--moe-shared-expert-overlap", "switch", False),
    Flag(
        "moe_token_dispatcher_type", "--moe-token-dispatcher-type", "word", "allgather",
        ("allgather", "alltoall"),
    ),
)  # fmt: skip

BY_NAME: Mapping[str, Flag] = {flag.name: flag for flag in FLAGS}

PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "fp32": (),
    "fp16": ("--fp16",),
    "bf16": ("--bf16",),
    "fp8": ("--bf16", "--fp8-format", "hybrid"),
}
OPTIMIZERS = ("adam", "sgd")
ZERO_STAGES: Mapping[int, bool] = {0: False, 1: True}
"""ZeRO stages that Megatron-LM's own data parallelism has: 1 is its distributed optimizer."""

SPECIAL = ("zero_stage", "precision", "optimizer")
KNOWN = (*BY_NAME, *SPECIAL)


def check_names(names: Sequence[str]) -> None:
    """BadInput for a parameter that no flag of Megatron-LM stands for."""
    for name in names:
        if name not in KNOWN:
            raise BadInput.unknown("Megatron-LM parameter", name, KNOWN, where="parameters")
    if "zero_stage" in names and "use_distributed_optimizer" in names:
        raise BadInput(
            "parameters: zero_stage and use_distributed_optimizer say the same thing to "
            "Megatron-LM; keep one of them."
        )


def render_parameters(values: Mapping[str, ParameterValue]) -> list[str]:
    """Arguments for all parameters of a config, in the table's order.

    ``values`` may hold ``precision`` and ``optimizer``, which become flags too. Raises BadInput
    for an unknown name or for a value that Megatron-LM cannot express: nothing is dropped.
    """
    check_names(tuple(values))
    arguments: list[str] = []
    for flag in FLAGS:
        if flag.name in values:
            arguments += flag.render(values[flag.name])
    if values.get("zero_stage") is not None:
        arguments += _zero(values["zero_stage"])
    for name, table in (("precision", tuple(PRECISIONS)), ("optimizer", OPTIMIZERS)):
        value = values.get(name)
        if value is not None and value not in table:
            raise BadInput.unknown(name, str(value), table, where="Megatron-LM")
    if values.get("precision") is not None:
        arguments += PRECISIONS[str(values["precision"])]
    if values.get("optimizer") is not None:
        arguments += ["--optimizer", str(values["optimizer"])]
    return arguments


def _zero(stage: ParameterValue) -> list[str]:
    if isinstance(stage, bool) or not isinstance(stage, int) or stage not in ZERO_STAGES:
        raise BadInput(
            f"parameters.zero_stage: Megatron-LM cannot express {stage!r}; it has 0 and 1 "
            "(its distributed optimizer)."
        )
    return ["--use-distributed-optimizer"] if ZERO_STAGES[stage] else []


def split_arguments(argv: Sequence[str]) -> dict[str, list[str]]:
    """Each ``--flag`` with the arguments that follow it; the last of repeated flags counts."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for item in argv:
        if item.startswith("--"):
            current = found[item] = []
        else:
            current.append(item)
    return found


def read_parameters(argv: Sequence[str]) -> dict[str, ParameterValue]:
    """Canonical values that an argument vector says, Megatron-LM's defaults filled in."""
    given = split_arguments(argv)
    values: dict[str, ParameterValue] = {flag.name: flag.read(given) for flag in FLAGS}
    values["zero_stage"] = 1 if values["use_distributed_optimizer"] else 0
    values["precision"] = _read_precision(given)
    values["optimizer"] = given.get("--optimizer", ["adam"])[0]
    return values


def _read_precision(given: Mapping[str, Sequence[str]]) -> str:
    if "--fp8-format" in given:
        return "fp8"
    if "--bf16" in given:
        return "bf16"
    return "fp16" if "--fp16" in given else "fp32"
