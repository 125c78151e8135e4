"""The command line: parse, call, print.

Each file of ``commands/`` has a ``register(app)`` that adds its commands; nothing heavy is
imported until a command runs, so that ``autotune --help`` answers at once.

Exit codes: 0 ok, 1 no feasible trial, 2 bad input, 3 infrastructure, 75 the study is held by
another controller, 130 or 143 interrupted. stdout carries results, stderr the talk.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from typing import Annotated

import typer

import autotune
from autotune.cli import commands
from autotune.errors import AutotuneError

app = typer.Typer(
    name="autotune",
    help="Find the layout, batch, memory and compile settings that train your model fastest.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"autotune {autotune.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _register_all() -> None:
    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda found: found.name):
        importlib.import_module(f"{commands.__name__}.{module.name}").register(app)


def main() -> None:
    """Run the command; every error of ours is one message and its exit code."""
    _register_all()
    try:
        app()
    except AutotuneError as error:
        print(f"autotune: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("autotune: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
