"""Why: one list of flags serves the programs and autotune's framework, so neither can drift."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FLAGS_FILE = Path(__file__).with_name("flags.json")


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


_TYPES = {"int": int, "float": float, "str": str, "bool": _boolean}


def parse_flags(
    description: str, defaults: dict[str, Any] | None = None, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """The command line as a namespace; ``defaults`` are the program's own, such as its shape."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    for name, spec in json.loads(FLAGS_FILE.read_text(encoding="utf-8"))["flags"].items():
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=_TYPES[spec.get("type", "str")],
            choices=spec.get("choices"),
            default=(defaults or {}).get(name, spec["default"]),
            help=spec["help"],
        )
    return parser.parse_args(argv)
