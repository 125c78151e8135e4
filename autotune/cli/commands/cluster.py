"""`autotune cluster`: a Ray cluster of several nodes on this machine, to try `--launcher ray`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from autotune.cli.options import Json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="A local Ray cluster to try `--launcher ray` on.", no_args_is_help=True
    )
    group.command()(up)
    group.command()(status)
    group.command()(down)
    app.add_typer(group, name="cluster")


def up(
    nodes: Annotated[int, typer.Option(help="Ray nodes, all on this machine.", min=1, max=64)] = 2,
    gpus: Annotated[
        int | None,
        typer.Option(
            help="GPUs a node; default: this machine's, shared out, or 8 fake ones.", min=0
        ),
    ] = None,
    cpus: Annotated[int, typer.Option(help="CPUs a node, as Ray counts them.", min=1)] = 8,
) -> None:
    """Start it, on the loopback device and with a token; runs find it by themselves."""
    from autotune.launchers._ray_local import start_cluster

    told = start_cluster(nodes, gpus, cpus)
    what = "this machine's GPUs" if told["real_gpus"] else "fake GPUs"
    print(f"{told['address']}  {nodes} nodes, {what}")
    print(
        f"autotune run --space SPACE --launcher ray --nodes {nodes}   uses it; "
        "`autotune cluster down` stops it.",
        file=sys.stderr,
    )


def status(as_json: Json = False) -> None:
    """Its nodes and what is free; exit code 1 when none is up."""
    from autotune.launchers._ray_local import nodes_of, running_cluster

    told = running_cluster()
    nodes = nodes_of(told["address"]) if told else []
    if as_json:
        print(json.dumps({"address": told["address"] if told else None, "nodes": nodes}))
    elif told is None:
        print("autotune: no try-out cluster is up: `autotune cluster up`", file=sys.stderr)
    else:
        print(told["address"])
    for node in nodes if not as_json else ():
        amounts = ", ".join(f"{value:g} {name}" for name, value in node["resources"].items())
        print(f"{node['node_id'][:12]}  {'alive' if node['alive'] else 'lost '}  {amounts}")
    raise typer.Exit(0 if told else 1)


def down() -> None:
    """Stop what `up` started, and no other Ray."""
    from autotune.launchers._ray_local import stop_cluster

    if not stop_cluster():
        print("autotune: no try-out cluster is up", file=sys.stderr)
