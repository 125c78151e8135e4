"""Which canonical parameters an error message names, whatever a framework calls them.

Only a message that also states a demand (must be, not divisible, not supported, ...) speaks
about the configuration; one that merely contains a parameter's name does not.
"""

from __future__ import annotations

import re

_NAMES = {
    "virtual_pipeline_model_parallel_size": r"virtual[-_ ]pipeline|interleaved"
    r"|per[-_ ]virtual|\bvpp\b",
    "pipeline_model_parallel_size": r"(?<!virtual[-_ ])pipeline[-_ ](?:model[-_ ])?parallel"
    r"|\bpp[-_ ]size|number of stages"
    r"|pipeline[-_ ]stages?"
    r"|\bpp\b",
    "tensor_model_parallel_size": r"tensor[-_ ](?:model[-_ ])?parallel"
    r"|\btp[-_ ](?:size|degree)|autotp"
    r"|\btp\b",
    "context_parallel_size": r"context[-_ ]parallel|\bcp[-_ ]size",
    "expert_model_parallel_size": r"expert[-_ ](?:model[-_ ])?parallel|\bep[-_ ]size",
    "data_parallel_size": r"data[-_ ]parallel|\bdp[-_ ]size",
    "sequence_parallel": r"sequence[-_ ]parallel",
    "micro_batch_size": r"micro[-_ ]?batch|per[-_ ]device[-_ ]train[-_ ]batch",
    "global_batch_size": r"global[-_ ]batch|(?<!micro_batch_size_)\btrain_batch_size",
    "gradient_accumulation_steps": r"gradient[-_ ]accumulation|accumulate[-_ ]grad",
    "recompute_granularity": r"recompute[-_ ]granularity|selective recompute|full recompute",
    "recompute_method": r"recompute[-_ ]method",
    "recompute_num_layers": r"recompute[-_ ]num[-_ ]layers",
    "gradient_checkpointing": r"(?:gradient|activation)[-_ ]checkpoint",
    "use_distributed_optimizer": r"distributed[-_ ]optimizer",
    "overlap_grad_reduce": r"overlap[-_ ]grad[-_ ]reduce",
    "overlap_param_gather": r"overlap[-_ ]param[-_ ]gather",
    "reduce_scatter": r"reduce[-_ ]scatter",
    "contiguous_gradients": r"contiguous[-_ ]gradients",
    "overlap_comm": r"overlap[-_ ]comm\b",
    "zero_stage": r"zero[-_ ]?(?:stage|optimization|[123]\b)|stage ?[123]\b",
    "offload_optimizer": r"offload[-_ ]?optimizer|optimizer[-_ ]offload|cpu[-_ ]offload",
    "offload_param": r"offload[-_ ]?param|param[-_ ]offload",
    "torch_compile": r"torch[-_.]compile",
    "precision": r"\bfp8\b|\bbf16\b|\bfp16\b|mixed precision",
    "num_attention_heads": r"attention[-_ ]heads|num[-_ ]heads",
    "num_query_groups": r"query[-_ ]groups|key[-_ ]value[-_ ]heads|kv[-_ ]heads",
    "num_layers": r"(?<!recompute-)(?<!recompute_)\bnum[-_ ]layers\b|number of layers",
    "num_experts": r"num[-_ ](?:moe[-_ ])?experts|number of experts",
    "hidden_size": r"hidden[-_ ]size",
    "seq_length": r"seq(?:uence)?[-_ ]len(?:gth)?|max[-_ ]position|encoder[-_ ]seq",
    "vocab_size": r"vocab(?:ulary)?[-_ ]size",
    "world_size": r"world[-_ ]size|number of (?:gpus|processes|ranks)|num[-_ ]gpus",
    "learning_rate": r"learning[-_ ]rate|\blr\b",
}
_PATTERNS = {name: re.compile(pattern) for name, pattern in _NAMES.items()}

_DEMAND = re.compile(
    r"must\b|should\b|cannot|can't|can not|can only|divisible|divide"
    r"|multiple of|match|expect|invalid"
    r"|not (?:support|allow|valid|compatible|equal|enough|implement)|unsupported|incompatible"
    r"|require|requires|only (?:support|works?|valid|allow|available)"
    r"|need(?:s|ed)? to|exceed|greater"
    r"|less than|larger|smaller|at least|at most|too (?:large|small|many|few)|mismatch|conflict"
    r"|mutually|please (?:use|set|specify|provide)|is not (?:a )?(?:valid|set|specified|defined)"
    r"|does not (?:support|equal)|don't (?:support|match)|disable|without"
    r"|not (?:be|in)\b|equal|\b[<>]=?\b|[!=]="
)


def names_parameters(message: str) -> tuple[str, ...]:
    """Canonical parameters that a message names, in the order of the table."""
    lowered = message.lower()
    return tuple(name for name, pattern in _PATTERNS.items() if pattern.search(lowered))


def states_demand(message: str) -> bool:
    """Whether a message says what must or must not be, as a refused configuration does."""
    return _DEMAND.search(message.lower()) is not None
