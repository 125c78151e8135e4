"""A causal language model from whatever is at hand: a config file, or a checkpoint folder."""

from __future__ import annotations

from pathlib import Path

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def build_model(source: str, dtype: torch.dtype, seed: int) -> torch.nn.Module:
    """The model named by a HF `config.json`, or by a folder that holds one.

    Weights are loaded where the folder has them and drawn from `seed` otherwise, on the CPU,
    so that every layout starts from the same numbers. Nothing is ever downloaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    path = Path(source)
    if not path.exists():
        raise SystemExit(f"--model {source}: no such config file or checkpoint folder")
    torch.manual_seed(seed)
    if path.is_dir() and _has_weights(path):
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True)
    else:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.config.use_cache = False
    return model


def default_tokenizer(source: str) -> str | None:
    """The checkpoint's own folder when it holds a tokenizer, else None."""
    folder = Path(source)
    names = ("tokenizer.json", "tokenizer.model", "vocab.json")
    return source if any((folder / name).is_file() for name in names) else None
