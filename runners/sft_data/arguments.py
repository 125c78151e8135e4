"""The flags that both fine-tuning runners take, so that a space can say them to either."""

from __future__ import annotations

import argparse
from pathlib import Path


def common_parser(description: str, data: str) -> argparse.ArgumentParser:
    """A parser with the shared flags; `data` names the shipped set that is the default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", required=True, help="HF config.json or a checkpoint folder")
    parser.add_argument("--data", default=str(Path(__file__).with_name(data)))
    parser.add_argument("--tokenizer", help="folder of a HF tokenizer (default: the checkpoint's)")
    parser.add_argument("--seq-length", type=int, default=512)
    parser.add_argument("--padding", choices=("longest", "max_length"), default="longest")
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--torch-compile", action="store_true")
    parser.add_argument("--torch-compile-backend", default="inductor")
    parser.add_argument("--torch-compile-mode", default="default")
    parser.add_argument("--profile", choices=("torch", "nsys"))
    parser.add_argument("--profile-dir", default="profile")
    parser.add_argument("--save", help="folder for the trained model, left out by trials")
    return parser
