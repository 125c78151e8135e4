#!/usr/bin/env python3
"""Puts rendered TOML through torchtitan's own configuration manager.

    pip install --no-deps --target DIR torchtitan==0.2.0 tyro ...
    PYTHONPATH=DIR python scripts/check_torchtitan_keys.py [--write FILE]

Every legal config of the shipped space is parsed by the real `ConfigManager`, which refuses
unknown keys and wrong types. `--write` saves the known keys (names only), which the tests
compare with where torchtitan is not installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from torchtitan.config.job_config import JobConfig
from torchtitan.config.manager import ConfigManager

from autotune.frameworks import RenderContext, get_framework
from autotune.space import build_legal_set, load_space


def known_keys(section: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a configuration dataclass."""
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            yield from known_keys(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name


def main() -> int:
    """0 when torchtitan takes every config."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if arguments.write:
        head = ["# keys of torchtitan 0.2.0's JobConfig"]
        arguments.write.write_text("\n".join([*head, *known_keys(JobConfig())]) + "\n")
    space = load_space("llama8b_torchtitan")
    titan = get_framework("torchtitan")
    legal = build_legal_set(space, titan.rules(space))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        for index in range(0, len(legal), 7):
            config = legal.config(index)
            job = titan.render(space, config, RenderContext(Path(folder)))
            path.write_text(job.files["torchtitan.toml"])
            parsed = ConfigManager().parse_args(["--job.config_file", str(path)])
            wanted = config["tensor_model_parallel_size"]
            assert parsed.parallelism.tensor_parallel_degree == wanted, config
    print(f"torchtitan takes {len(range(0, len(legal), 7))} of {len(legal)} legal configs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
