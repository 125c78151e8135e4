#!/usr/bin/env python3
"""Puts what autotune renders through the parsers of the systems that will read it.

    scripts/check_rendered.py accelerate                    the installed one's file reader
    scripts/check_rendered.py deepspeed                     the installed one's DeepSpeedConfig
    scripts/check_rendered.py torchtitan CHECKOUT           its ConfigManager (0.2)
    scripts/check_rendered.py llamafactory CHECKOUT         its dataclasses, by HfArgumentParser
    scripts/check_rendered.py bridge CHECKOUT MEGATRON_LM   fields of Megatron-Bridge's recipes

CHECKOUT is a work tree (`git archive TAG | tar x -C CHECKOUT` is enough). Configs are drawn from
the legal set of the shipped space (`--limit`, 300; `--set` as for `autotune run`). Packages that
a checkout imports and that are not installed are empty shells here (`tyro` and `omegaconf` have
to be real), and a GPU that knows bf16 counts as present. Megatron-Bridge cannot be imported
without a GPU: that each field exists is read from its source. `--write FILE` keeps the keys that
torchtitan knows (names only), which the tests compare with. See also
`check_megatron_args.py` and `check_nemo_keys.py`. Exit 0 when nothing was refused, 1 otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import yaml
from _class_fields import Classes

from autotune.export import Winner
from autotune.export.accelerate import EXPORTER
from autotune.frameworks import RenderContext, get_framework
from autotune.space import build_legal_set, load_space
from autotune.trial import Job

Reader = Callable[[Job, Path], None]
"""Raises what the real parser raises; the job's files lie in the folder."""


def shell(name: str) -> None:
    """An empty package, unless the real one is installed."""
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    module: Any = types.ModuleType(name)
    module.__path__, module.__version__ = [], "3.0.0"
    module.__spec__ = importlib.util.spec_from_loader(name, None)
    module.__getattr__ = _attribute
    sys.modules[name] = module


def _attribute(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock()


def torchtitan(checkout: Path) -> Reader:
    """`ConfigManager().parse_args`, which refuses unknown keys and wrong types."""
    import torch._inductor.runtime.triton_compat
    import torch.utils._triton

    torch.utils._triton.has_triton_package()
    sys.path.insert(0, str(checkout))
    for name in ("triton", "triton.language", "torchdata", "torchdata.stateful_dataloader"):
        shell(name)
    manager = importlib.import_module("torchtitan.config.manager")

    def read(job: Job, folder: Path) -> None:
        path = folder / "torchtitan.toml"
        parsed = manager.ConfigManager().parse_args(["--job.config_file", str(path)])
        said = get_framework("torchtitan").read_back(load_space("llama8b_torchtitan"), job)
        wanted = said["tensor_model_parallel_size"]
        assert parsed.parallelism.tensor_parallel_degree == wanted, "TP was read as another"

    return read


def torchtitan_keys() -> Iterator[str]:
    """Dotted keys of the JobConfig that was imported."""
    waiting = [("", importlib.import_module("torchtitan.config.job_config").JobConfig())]
    while waiting:
        prefix, section = waiting.pop(0)
        for item in fields(section):
            value = getattr(section, item.name)
            if is_dataclass(value):
                waiting.append((f"{prefix}{item.name}.", value))
            else:
                yield prefix + item.name


def llamafactory(checkout: Path) -> Reader:
    """Its five dataclasses as `llamafactory-cli train` fills them; no key may be left over."""
    from transformers import HfArgumentParser, training_args

    training_args.is_torch_bf16_gpu_available = lambda: True

    for name in ("llamafactory", "llamafactory.extras", "llamafactory.hparams"):
        package = types.ModuleType(name)
        package.__path__ = [str(checkout / "src" / name.replace(".", "/"))]
        sys.modules[name] = package
    for name in ("datasets", "peft", "peft.utils", "trl", "ray"):
        shell(name)
    classes = [
        getattr(importlib.import_module(f"llamafactory.hparams.{part}_args"), name)
        for part, name in (
            ("model", "ModelArguments"),
            ("data", "DataArguments"),
            ("training", "TrainingArguments"),
            ("finetuning", "FinetuningArguments"),
            ("generating", "GeneratingArguments"),
        )
    ]

    def read(job: Job, folder: Path) -> None:
        given = yaml.safe_load((folder / "llamafactory.yaml").read_text())
        HfArgumentParser(classes).parse_dict(given, allow_extra_keys=False)

    return read


def bridge(checkout: Path, megatron: Path) -> Reader:
    """The fields of ConfigContainer and of all that it holds."""
    classes = Classes([checkout / "src" / "megatron" / "bridge", megatron / "megatron"])

    def read(job: Job, folder: Path) -> None:
        settings = json.loads((folder / "bridge_recipe.json").read_text())["settings"]
        unknown = [name for name in settings if not classes.knows("ConfigContainer", name)]
        assert not unknown, f"no such field: {', '.join(unknown)}"

    return read


def deepspeed() -> Reader:
    """`DeepSpeedConfig` at the job's number of ranks, batch arithmetic included."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.runtime import config

    config.dist = types.SimpleNamespace(get_rank=lambda: 0)

    def read(job: Job, folder: Path) -> None:
        given = json.loads((folder / "ds_config.json").read_text())
        tensor = int(given.get("tensor_parallel", {}).get("autotp_size", 1))
        ranks = job.world_size // tensor
        config.DeepSpeedConfig(
            given, mpu=types.SimpleNamespace(get_data_parallel_world_size=lambda: ranks)
        )

    return read


def accelerate() -> Reader:
    """What `accelerate launch --config_file` reads an exported configuration with."""
    from accelerate.commands.config.config_args import load_config_from_file

    def read(job: Job, folder: Path) -> None:
        assert load_config_from_file(str(folder / "accelerate_config.yaml")).num_processes > 0

    return read


SYSTEMS: dict[str, tuple[Callable[..., Reader], str, tuple[str, ...]]] = {
    "accelerate": (accelerate, "llama1b_dolly_ttt", ()),
    "deepspeed": (deepspeed, "llama1b_deepspeed", ()),
    "torchtitan": (torchtitan, "llama8b_torchtitan", ()),
    "llamafactory": (llamafactory, "llamafactory_lora", ()),
    "bridge": (
        bridge,
        "llama7b_lora_nemo",
        ("options.nemo_version=2", "options.restore_from_path=/models/llama2"),
    ),
}
"""Name -> how to read, the shipped space whose configs are read, and what is set in it."""


def refusals(options: argparse.Namespace, folder: Path) -> Iterator[str | None]:
    """What the real parser says of each config drawn: None, or the refusal."""
    system = options.system
    reader, name, overrides = SYSTEMS[system]
    read = reader(*options.checkout)
    space = load_space(name, (*overrides, *options.overrides))
    framework = get_framework(space.frameworks[0])
    legal = build_legal_set(space, framework.rules(space))
    rows = random.Random(0).sample(range(len(legal)), min(options.limit, len(legal)))
    print(f"{system}: {len(rows):,} of {len(legal):,} legal configs of {name}")
    for row in rows:
        config = legal.config(row)
        job = framework.render(space, config, RenderContext(folder))
        winner = Winner(space, config, job, folder, {})
        files = EXPORTER.files(winner) if system == "accelerate" else job.files
        for target, text in files.items():
            path = folder / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        try:
            read(job, folder)
        except (Exception, SystemExit) as error:
            yield f"{type(error).__name__}: {str(error).strip()[-300:]}"
        else:
            yield None


def main() -> int:
    """Check one system; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=sorted(SYSTEMS))
    parser.add_argument("checkout", type=Path, nargs="*", help="of the system's source")
    parser.add_argument("--limit", type=int, default=300, help="configs to draw")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--write", type=Path, help="torchtitan: a file for the known keys")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = Counter(refusals(options, Path(folder)))
    if options.write:
        options.write.write_text("\n".join(sorted(torchtitan_keys())) + "\n")
    refused = told.total() - told.pop(None, 0)
    print(f"{refused:,} refused")
    for text, count in told.most_common(10):
        print(f"  {count:,} x {text}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
