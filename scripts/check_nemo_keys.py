#!/usr/bin/env python3
"""Checks what we tell NeMo against the real NeMo-Framework-Launcher.

    python scripts/check_nemo_keys.py CHECKOUT [--write FILE]

CHECKOUT is a work tree or a bare git directory of github.com/NVIDIA/NeMo-Framework-Launcher.
Every key path that autotune writes has to stand in its `conf/peft/llama/squad.yaml`; where
hydra-core is installed, the exported override file is composed on top of the real defaults and
read back. `--write` saves the key paths (names only), which the tests compare with offline.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from autotune.frameworks import RenderContext, get_framework
from autotune.frameworks._nemo_config import flattened
from autotune.space import build_legal_set, load_space

CONF = "launcher_scripts/conf"
SQUAD = f"{CONF}/peft/llama/squad.yaml"
ADDED = {"trainer.limit_val_batches"}
"""Keys of Lightning's Trainer that squad.yaml leaves at their default."""


def unpack(checkout: Path, target: Path) -> str:
    """The launcher's `conf` folder below `target`; the commit it is from."""
    git = ["git", "-C", str(checkout)]
    archive = subprocess.run([*git, "archive", "HEAD", CONF], capture_output=True, check=True)
    subprocess.run(["tar", "x", "-C", str(target)], input=archive.stdout, check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return head.stdout.strip()


def composed(conf: Path, ours: Path) -> dict[str, Any] | None:
    """The launcher's config with our override file, as Hydra makes it; None without Hydra."""
    try:
        from hydra import compose, initialize_config_dir
        from omegaconf import OmegaConf
    except ImportError:
        return None
    with initialize_config_dir(str(conf), version_base=None):
        config = compose(
            "config",
            overrides=[
                f"hydra.searchpath=[file://{ours}]",
                "peft=llama/autotune",
                "stages=[peft]",
                "launcher_scripts_path=/launcher",
            ],
        )
    return dict(flattened(OmegaConf.to_container(config.peft, resolve=False)))


def main() -> int:
    """0 when every key is known and every composed value is ours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    space = load_space("llama7b_lora_nemo")
    nemo = get_framework("nemo")
    legal = build_legal_set(space, nemo.rules(space))
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        commit = unpack(arguments.checkout, root)
        known = {key for key, _ in flattened(yaml.safe_load((root / SQUAD).read_text()))}
        if arguments.write:
            lines = [f"# key paths of {SQUAD}", f"# NVIDIA/NeMo-Framework-Launcher {commit}"]
            arguments.write.write_text("\n".join([*lines, *sorted(known)]) + "\n")
        for index in range(len(legal)):
            context = RenderContext(root / "export", purpose="export")
            files = nemo.render(space, legal.config(index), context).files
            tree = yaml.safe_load(files["conf/peft/llama/autotune.yaml"])
            tree.pop("defaults")
            ours = dict(flattened(tree))
            wrong += sum(1 for key in ours if key not in known | ADDED)
            if index % 40 == 0:
                path = root / "export/conf/peft/llama/autotune.yaml"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(files["conf/peft/llama/autotune.yaml"])
                real = composed(root / CONF, root / "export/conf")
                if real is not None:
                    wrong += sum(1 for key, value in ours.items() if real[key] != value)
    print(f"{len(legal)} configs, {len(known)} known keys, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
