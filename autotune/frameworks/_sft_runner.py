"""What the fine-tuning runners (`deepspeed_sft`, `accelerate_ttt`) have in common, both ways.

Their arguments are written here and read back here, so that a value cannot be said one way and
read another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.config import Config, ParameterValue
from autotune.content import find_content
from autotune.errors import BadInput
from autotune.frameworks import RenderContext
from autotune.frameworks._hf_config import hf_config
from autotune.frameworks._space import Allowed, fact, user_path, where

if TYPE_CHECKING:
    from autotune.space import SearchSpace

SWITCHES = {
    "gradient_checkpointing": "--gradient-checkpointing",
    "torch_compile": "--torch-compile",
}
WORDS = {
    "torch_compile_backend": "--torch-compile-backend",
    "torch_compile_mode": "--torch-compile-mode",
    "padding": "--padding",
}
PARAMETERS: Mapping[str, Allowed] = {
    "gradient_checkpointing": bool,
    "torch_compile": bool,
    "torch_compile_backend": str,
    "torch_compile_mode": str,
    "padding": ("longest", "max_length"),
}
RULES = tuple(
    (f"{name} is None or (torch_compile is not None and torch_compile)", "nothing is compiled")
    for name in ("torch_compile_backend", "torch_compile_mode")
)
OPTIONS = ("model_path", "tokenizer", "data", "save", "train_steps")
DEFAULT_SEQ_LENGTH = 512
MODEL_FILE = "model/config.json"


def runner_program(space: SearchSpace, default: str) -> str:
    """Path of the training program: the space's `runner`, else the shipped one.

    A runner may be named by folder (its `train.py` is meant) or by file.
    """
    name = space.runner or default
    found = find_content("runners", name) or _beside(space, name)
    if found is not None and found.is_dir():
        found = found / "train.py"
    if found is None or not found.is_file():
        raise BadInput(f"{where(space)}: runner {name!r} is not among the runners")
    return str(found)


def _beside(space: SearchSpace, name: str) -> Path | None:
    if space.source is None:
        return None
    path = (space.source.resolve().parent / name).resolve()
    return path if path.exists() else None


def model_argument(
    space: SearchSpace, config: Config, trial_dir: Path
) -> tuple[str, dict[str, str]]:
    """(path for ``--model``, files to write for it): the user's model, else one of this shape."""
    if space.options.get("model_path") is not None:
        return user_path(space, "model_path"), {}
    if space.model is None:
        raise BadInput(f"{where(space)}: needs a model, or options.model_path")
    seq_length = fact(space, config, "seq_length", DEFAULT_SEQ_LENGTH)
    text = json.dumps(hf_config(space.model, seq_length), indent=2) + "\n"
    return str(trial_dir / MODEL_FILE), {MODEL_FILE: text}


def runner_arguments(space: SearchSpace, config: Config, context: RenderContext) -> list[str]:
    """Arguments that both runners take, without the number of steps."""
    seq_length = fact(space, config, "seq_length", DEFAULT_SEQ_LENGTH)
    arguments = ["--seq-length", str(seq_length), "--seed", str(context.seed)]
    for name in ("tokenizer", "data"):
        if space.options.get(name) is not None:
            arguments += [f"--{name}", user_path(space, name)]
    arguments += [flag for name, flag in SWITCHES.items() if config.get(name, False)]
    for name, flag in WORDS.items():
        if config.get(name) is not None:
            arguments += [flag, str(config[name])]
    if context.profiler is not None:
        arguments += ["--profile", context.profiler]
        arguments += ["--profile-dir", str(context.trial_dir / "profile")]
    if context.purpose == "export" and space.options.get("save") is not None:
        arguments += ["--save", user_path(space, "save")]
    return arguments


def flag_values(argv: Sequence[str]) -> dict[str, str | None]:
    """`--flag` -> the word after it, None for a switch."""
    values: dict[str, str | None] = {}
    for place, word in enumerate(argv):
        if word.startswith("--"):
            following = argv[place + 1] if place + 1 < len(argv) else "--"
            values[word] = None if following.startswith("--") else following
    return values


def read_runner_arguments(argv: Sequence[str]) -> dict[str, ParameterValue]:
    """Canonical values that the shared arguments say."""
    given = flag_values(argv)
    values: dict[str, ParameterValue] = {name: flag in given for name, flag in SWITCHES.items()}
    values |= {name: given.get(flag) for name, flag in WORDS.items()}
    values["seq_length"] = int(given["--seq-length"] or 0)
    return values


def on_cpu(space: SearchSpace) -> bool:
    """Whether the space's cluster has no accelerators at all."""
    hardware = space.cluster.hardware
    return hardware is not None and hardware.vendor == "cpu"
