"""`autotune spaces`: list, show and validate search spaces."""

from __future__ import annotations

from typing import Annotated

import typer

from autotune.cli.options import Json, Overrides


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        help="List, show and validate search spaces.", no_args_is_help=False, rich_markup_mode=None
    )
    group.callback(invoke_without_command=True)(_default)
    group.command("list")(list_spaces)
    group.command("show")(show)
    group.command("validate")(validate)
    app.add_typer(group, name="spaces")


def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_spaces()


def list_spaces(as_json: Json = False) -> None:
    """List the spaces found in ./search_spaces, $AUTOTUNE_PATH and what ships."""
    from autotune.cli import console
    from autotune.content import list_content
    from autotune.errors import AutotuneError
    from autotune.space import load_space

    found = []
    for path in list_content("search_spaces", "*.yaml"):
        try:
            text = load_space(str(path)).description.strip().split("\n")[0]
        except AutotuneError as error:
            text = f"not valid: {error}"
        found.append({"name": path.stem, "description": text, "path": str(path)})
    if as_json:
        console.print_json(found)
        return
    for item in found:
        print(f"{item['name']:<22} {item['description']}")


SpaceName = Annotated[str, typer.Argument(help="A space's name or YAML file.")]


def show(space: SpaceName, overrides: Overrides = None) -> None:
    """Print a space with everything resolved."""
    from autotune.space import load_space

    print(load_space(space, tuple(overrides or ())).to_yaml(), end="")


def validate(space: SpaceName, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check a space and count its legal configs; exit 2 with file, line and key when wrong."""
    from autotune.cli import console
    from autotune.controller.setting import framework_rules
    from autotune.space import build_legal_set, load_space

    loaded = load_space(space, tuple(overrides or ()))
    legal = build_legal_set(loaded, framework_rules(loaded))
    if as_json:
        console.print_json(
            {
                "space": loaded.name,
                "legal": len(legal),
                "points": legal.raw_points,
                "excluded": [{"rule": str(rule), "count": n} for rule, n in legal.exclusions],
            }
        )
        return
    print(f"{loaded.name}: valid, {len(legal):,} legal configs of {legal.raw_points:,} points")
    for rule, count in legal.exclusions:
        print(f"  {count:>12,} excluded by {rule.origin}: {rule.reason or rule.expression}")
