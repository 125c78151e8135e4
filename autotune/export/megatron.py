"""Megatron-LM's arguments in a file of their own, and the script that starts it with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from autotune.errors import BadInput
from autotune.export import Winner, _shell


class Megatron:
    """The exporter ``megatron``: megatron_args.sh (a bash array), .json, .yaml, run.sh."""

    name = "megatron"
    describes = "Megatron-LM arguments and a run script"

    def files(self, winner: Winner) -> Mapping[str, str]:
        """BadInput when the winner is not a Megatron-LM job."""
        job = winner.job
        if "--num-layers" not in job.argv:
            raise BadInput("this winner is no Megatron-LM job; --format bash exports any winner")
        first = next(i for i, item in enumerate(job.argv) if item.startswith("--"))
        program, flags = list(job.argv[:first]), list(job.argv[first:])
        rows = _shell.command(flags, winner.folder).replace(" \\\n", "\n")
        start = _shell.command(_shell.torchrun(replace(job, argv=tuple(program))), winner.folder)
        script = [
            *_shell.header(job, winner.folder),
            *_shell.rendezvous(job),
            "# shellcheck source=/dev/null",
            '. "$HERE/megatron_args.sh"',
            f'exec {start} "${{MEGATRON_ARGS[@]}}" "$@"',
        ]
        return {
            "megatron_args.sh": (
                f"# shellcheck shell=bash disable=SC2034\nMEGATRON_ARGS=(\n    {rows}\n)\n"
            ),
            "megatron_args.json": json.dumps(flags, indent=1) + "\n",
            "megatron_args.yaml": yaml.safe_dump(_mapping(flags), sort_keys=False),
            "run.sh": _shell.script(script),
        }


def _mapping(flags: Sequence[str]) -> dict[str, Any]:
    """Flags as Megatron-LM's own names, as a checkpoint's args and configuration files have them.

    A flag alone is true, several values after one are a list; numbers stay what they look like.
    """
    found: dict[str, Any] = {}
    name = ""
    for item in flags:
        if item.startswith("--"):
            name = item[2:].replace("-", "_")
            found[name] = True
        elif found[name] is True:
            found[name] = _read(item)
        else:
            before = found[name]
            found[name] = [*(before if isinstance(before, list) else [before]), _read(item)]
    return found


def _read(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


EXPORTER = Megatron()
