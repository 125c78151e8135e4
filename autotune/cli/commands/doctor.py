"""`autotune doctor`: is this machine, or every node of a launcher, fit for training?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from autotune.cli.options import Json, launcher_options, python_of_trials
from autotune.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    launcher: Annotated[str, typer.Option(help="Check the nodes of this launcher.")] = "local",
    launcher_option: Annotated[
        list[str] | None, typer.Option("--launcher-option", metavar="KEY=VALUE")
    ] = None,
    nodes: Annotated[int, typer.Option(help="How many nodes.", min=1)] = 1,
    python: Annotated[str | None, typer.Option(help="Python of the training environment.")] = None,
    quick: Annotated[bool, typer.Option(help="Smaller products, no copies.")] = False,
    bench: Annotated[
        Path | None, typer.Option(help="Measure this machine and write a hardware YAML there.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Hardware whose unmeasurable figures (links) are kept.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check Python, torch, devices, memory, links and versions; exit 1 when something is wrong."""
    from autotune.cli import console
    from autotune.controller.one_off import run_once
    from autotune.launchers import get_launcher

    place = get_launcher(launcher, launcher_options(launcher_option))
    interpreter = python_of_trials(python)
    if bench is not None:
        _bench(place, interpreter, bench, base)
        return
    argv = [interpreter, _program("doctor/check.py"), *(["--quick"] if quick else [])]
    reports = [_json(printed.text) for printed in run_once(place, argv, nodes, 600.0)]
    if as_json:
        console.print_json(reports)
    else:
        for report in reports:
            _show(report)
    raise typer.Exit(1 if any(report["problems"] for report in reports) else 0)


def _program(relative: str) -> str:
    from autotune.content import find_content

    found = find_content("runners", relative)
    if found is None:
        raise BadInput(f"runners/{relative} was not found; reinstall autotune.")
    return str(found)


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text[text.index("{") :])
    except ValueError as error:
        raise BadInput(f"the check printed no report:\n{text[-2000:]}") from error
    if not isinstance(found, dict):
        raise BadInput(f"the check printed no report:\n{text[-2000:]}")
    return found


def _show(report: dict[str, Any]) -> None:
    for section in ("host", "versions", "torch"):
        print(f"{section}:")
        for key, value in (report.get(section) or {}).items():
            print(f"  {key}: {value if not isinstance(value, (dict, list)) else json.dumps(value)}")
    for problem in report["problems"]:
        print(f"PROBLEM: {problem}")
    if not report["problems"]:
        print("No problem found.")


def _bench(place: Any, interpreter: str, target: Path, base: str | None) -> None:
    """Measure, and write a hardware file that a space can name."""
    import yaml

    from autotune.controller.one_off import run_once
    from autotune.costmodel.hardware import hardware_from_bench, load_hardware

    argv = [interpreter, _program("bench_hardware/bench.py")]
    print("measuring matrix products, memory and links ...", file=sys.stderr)
    result = _json(run_once(place, argv, 1, 1200.0)[0].text)
    hardware = hardware_from_bench(result, target.stem, load_hardware(base) if base else None)
    document = hardware.model_dump(mode="json", exclude_defaults=True)
    try:
        target.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{target}: {error.strerror}") from error
    print(target)
