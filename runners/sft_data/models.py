"""A causal language model from whatever is at hand: a config file, or a checkpoint folder."""

from __future__ import annotations

from pathlib import Path

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def _drawing_device(shape: torch.nn.Module) -> str:
    """The GPU where it holds the whole model: a CPU draws a billion weights in about a minute."""
    if not torch.cuda.is_available():
        return "cpu"
    size = sum(weights.numel() * weights.element_size() for weights in shape.parameters())
    free, _ = torch.cuda.mem_get_info()
    return "cuda" if 2 * size < free else "cpu"


def build_model(source: str, dtype: torch.dtype, seed: int) -> torch.nn.Module:
    """The model named by a HF `config.json`, or by a folder that holds one.

    Weights are loaded where the folder has them and drawn from `seed` otherwise, whole on every
    rank, so that every layout starts from the same numbers. Nothing is ever downloaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    path = Path(source)
    if not path.exists():
        raise SystemExit(f"--model {source}: no such config file or checkpoint folder")
    if path.is_dir() and _has_weights(path):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True)
    else:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        with torch.device("meta"):
            shape = AutoModelForCausalLM.from_config(config, dtype=dtype)
        torch.manual_seed(seed)
        with torch.device(_drawing_device(shape)):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        model.to("cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    model.config.use_cache = False
    return model


def default_tokenizer(source: str) -> str | None:
    """The checkpoint's own folder when it holds a tokenizer, else None."""
    folder = Path(source)
    names = ("tokenizer.json", "tokenizer.model", "vocab.json")
    return source if any((folder / name).is_file() for name in names) else None
