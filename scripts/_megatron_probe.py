"""Megatron-LM's own checks of argument vectors, one JSON list a line, in a process of its own.

    _megatron_probe.py MEGATRON_DIR WORLD_SIZE < vectors.jsonl

For each line prints ``PROBE null`` (accepted) or ``PROBE "reason"``. What is run is Megatron-LM's
`parse_args`, `validate_args`, `core_transformer_config_from_args`, the constructor of its
micro-batch calculator and `get_num_layers_to_build` of the first stage. What is not real, so that
they run where there is no GPU:

- packages that are imported but not needed here: `six`, and `triton` as an empty shell;
- `typing.override` on Python 3.11 (recent Megatron-LM wants 3.12);
- Transformer Engine is not there: its fused rotary embedding counts as present;
- the GPU asked for its capability says 9.0 (Hopper);
- the argument parser is built once and used again for every line; a refusal by argparse, which
  would exit, counts as one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import json
import os
import sys
import types
import typing
import warnings
from typing import Any
from unittest.mock import MagicMock


def install_stubs() -> None:
    """The stubs named above; torch looks for triton once before, and finds none."""
    import torch
    import torch._inductor.runtime.triton_compat
    import torch.utils._triton

    torch.utils._triton.has_triton_package()
    typing.override = getattr(typing, "override", lambda function: function)  # type: ignore[attr-defined]
    for name in ("six", "triton", "triton.language", "triton.language.extra"):
        shell: Any = types.ModuleType(name)
        shell.__path__ = []
        shell.__version__ = "3.0.0"
        shell.__getattr__ = _attribute
        sys.modules.setdefault(name, shell)
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.get_device_properties = lambda *_: types.SimpleNamespace(
        major=9, minor=0, name="NVIDIA H100"
    )


def _attribute(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock()


class Checks:
    """The real functions of one checkout."""

    def __init__(self) -> None:
        self.arguments = importlib.import_module("megatron.training.arguments")
        rotary = importlib.import_module("megatron.core.models.common.embeddings.rope_utils")
        rotary.fused_apply_rotary_pos_emb = rotary.fused_apply_rotary_pos_emb or object()
        self.calculator = importlib.import_module("megatron.core.num_microbatches_calculator")
        self.parallel_state = importlib.import_module("megatron.core.parallel_state")
        self.block = importlib.import_module("megatron.core.transformer.transformer_block")
        parser = argparse.ArgumentParser(allow_abbrev=False)
        built = self.arguments.add_megatron_arguments(parser)
        self.arguments.add_megatron_arguments = lambda _: built

    def refusal(self, vector: list[str]) -> str | None:
        """Why Megatron-LM refuses an argument vector; None when it does not."""
        sys.argv = ["pretrain_gpt.py", *vector]
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                self._run()
        except (Exception, SystemExit) as error:
            text = str(error) if str(error) not in ("", "2") else said.getvalue().strip()
            return f"{type(error).__name__}: {text.splitlines()[-1] if text else 'no reason'}"
        return None

    def _run(self) -> None:
        args = self.arguments.parse_args()
        self.arguments.validate_args(args)
        config = self.arguments.core_transformer_config_from_args(args)
        self.calculator.ConstantNumMicroBatchesCalculator(
            args.global_batch_size, args.micro_batch_size, args.data_parallel_size, False, 0
        )
        self._build_layers(config, args.virtual_pipeline_model_parallel_size)

    def _build_layers(self, config: Any, virtual: int | None) -> None:
        state, build = self.parallel_state, self.block.get_num_layers_to_build
        state.set_pipeline_model_parallel_world_size(config.pipeline_model_parallel_size)
        state.set_pipeline_model_parallel_rank(0)
        state.set_virtual_pipeline_model_parallel_world_size(virtual)
        state.set_virtual_pipeline_model_parallel_rank(0 if virtual else None)
        if "vp_stage" in inspect.signature(build).parameters:
            build(config, vp_stage=0 if virtual else None, pp_rank=0)
        else:
            build(config)


def main() -> None:
    """Check every line of standard input."""
    megatron, world_size = sys.argv[1:3]
    os.environ.update(RANK="0", WORLD_SIZE=world_size, CUDA_DEVICE_MAX_CONNECTIONS="1")
    warnings.simplefilter("ignore")
    sys.path.insert(0, megatron)
    with contextlib.redirect_stdout(sys.stderr):
        install_stubs()
        checks = Checks()
    for line in sys.stdin:
        print("PROBE " + json.dumps(checks.refusal(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
