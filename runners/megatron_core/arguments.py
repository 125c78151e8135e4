"""Which of Megatron-LM's flags this runner takes, and why it refuses the others."""

from __future__ import annotations

import argparse
import os

from megatron_text import flags

CANNOT = {
    "fp8_format": "fp8 needs Transformer Engine",
    "num_experts": "mixtures of experts are not built here",
    "multi_latent_attention": "latent attention is not built here",
    "tp_comm_overlap": "it needs Transformer Engine",
    "cross_entropy_loss_fusion": "fused kernels are not used here",
    "defer_embedding_wgrad_compute": "it needs fused gradient accumulation",
    "use_precision_aware_optimizer": "it needs Transformer Engine",
    "optimizer_cpu_offload": "it needs the precision-aware optimizer",
    "empty_unused_memory_level": "only 0 is supported",
    "data_path": "this runner trains on mock tokens (--mock-data)",
    "load": "checkpoints need megatron.training",
    "save": "checkpoints need megatron.training",
}
"""Flags that are refused when given, with the reason."""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Megatron-LM's flags; exits with 2 and a sentence for what this runner cannot do."""
    parser = flags.megatron_parser("Trains a small GPT with megatron-core on mock tokens.")
    args = flags.parse(parser, int(os.environ.get("WORLD_SIZE", "1")), argv)
    for name, reason in CANNOT.items():
        if getattr(args, name):
            parser.error(f"--{name.replace('_', '-')}: {reason}")
    if args.context_parallel_size > 1:
        parser.error("--context-parallel-size: context parallelism needs Transformer Engine")
    if args.attention_backend not in ("auto", "unfused"):
        parser.error(f"--attention-backend: {args.attention_backend} needs Transformer Engine")
    if args.vocab_size is None:
        parser.error("--vocab-size: needed, for the mock tokens")
    return args
