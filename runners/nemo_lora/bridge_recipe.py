"""Runs a Megatron-Bridge recipe (NeMo's successor) with LoRA and the settings of one config.

    python bridge_recipe.py bridge_recipe.json      once per GPU, with RANK and its kin set

The file holds the name of a recipe in `megatron.bridge.recipes.llama` and dotted fields of its
ConfigContainer with their values. A field that the container does not have is an error: nothing
is set that would be silently ignored.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def apply_settings(container: Any, settings: dict[str, Any]) -> None:
    """Sets dotted fields on nested objects; exits for one that does not exist."""
    for path, value in settings.items():
        *parents, leaf = path.split(".")
        place = container
        for name in parents:
            place = getattr(place, name, None)
        if not hasattr(place, leaf):
            raise SystemExit(f"this recipe has no setting {path!r}; is Megatron-Bridge too old?")
        setattr(place, leaf, value)


def main() -> None:
    """Builds the recipe's config, applies the settings, and trains."""
    import torch
    from megatron.bridge.peft.lora import LoRA
    from megatron.bridge.recipes import llama
    from megatron.bridge.training.config import ProfilingConfig
    from megatron.bridge.training.finetune import finetune
    from megatron.bridge.training.gpt_step import forward_step

    given = json.loads(Path(sys.argv[1]).read_text())
    make = getattr(llama, given["recipe"], None)
    if make is None:
        raise SystemExit(f"Megatron-Bridge has no recipe {given['recipe']!r}")
    config = make()
    config.peft = LoRA()
    if any(path.startswith("profiling.") for path in given["settings"]):
        config.profiling = config.profiling or ProfilingConfig()
    apply_settings(config, given["settings"])
    if config.model.pipeline_model_parallel_size > 1:
        half = config.mixed_precision.startswith("fp16")
        config.model.pipeline_dtype = torch.float16 if half else torch.bfloat16
    finetune(config=config, forward_step_func=forward_step)


if __name__ == "__main__":
    main()
