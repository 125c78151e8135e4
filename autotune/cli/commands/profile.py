"""`autotune profile`: run one config again with its framework's profiler switched on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from autotune.cli.options import Storage, StudyName, open_study
from autotune.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(profile)


def profile(
    study: StudyName,
    trial: Annotated[int | None, typer.Option(help="Its number; default: the winner.")] = None,
    tool: Annotated[str, typer.Option("--with", help="torch or nsys.")] = "torch",
    nsys_option: Annotated[
        list[str] | None,
        typer.Option(help="One more option of nsys, e.g. --nsys-option=--delay=60. Repeatable."),
    ] = None,
    storage: Storage = None,
) -> None:
    """Profile a config; the traces stay in the study's folder, as artifacts of the study.

    With torch, the framework's own profiler; nsys stands in front of any program, and captures
    a few steps where the program marks them, all of the run where it does not. No figure of the
    run counts.
    """
    from autotune.controller import Options, prepare_space
    from autotune.controller.one_off import run_job
    from autotune.controller.standing import result
    from autotune.controller.write_job import write_job
    from autotune.space import load_space
    from autotune.study.artifacts import keep_profile

    opened = open_study(study, storage)
    if nsys_option and tool != "nsys":
        raise BadInput("--nsys-option is for --with nsys")
    number = trial
    if number is None:
        winner = result(opened.records(), *opened.reading).winner
        if winner is None:
            raise BadInput(f"study {study!r} has no winner yet; --trial N profiles one trial")
        number = winner.record.number
    record = opened.record(number)
    options = Options.from_json(opened.settings["options"])
    setting = prepare_space(load_space(str(opened.paths.space)), options)
    index = setting.legal.find(record.values)
    if index is None:
        raise BadInput(f"trial {number}: its config is no longer legal")
    paths = opened.paths.profile(number, tool)
    shutil.rmtree(paths.folder, ignore_errors=True)
    config = setting.legal.config(index)
    job = setting.render_profiled(config, paths.folder, _tool(tool), nsys_option or ())
    write_job(job, paths)
    print(f"profiling trial {number} with {tool} ...", file=sys.stderr)
    status = run_job(setting.launcher, job, paths.folder)
    found = sorted(path for path in paths.folder.rglob("*") if _is_profile(path))
    for path in found:
        print(path)
        keep_profile(opened, f"trial {number} {path.name}", path)
    if status.deadline_hit and found:
        limit = setting.space.trial.time_limit_s
        print(f"the run was ended at trial.time_limit_s ({limit:.0f} s)", file=sys.stderr)
    elif status.deadline_hit or any(rank.code != 0 for rank in status.exits):
        raise BadInput(f"the profiled run failed ({status.detail}); its logs are in {paths.logs}")
    if not found:
        raise BadInput(f"the run ended well but left no trace; its logs are in {paths.logs}")


PROFILES = (".json.gz", ".pt.trace.json", "trace.json", ".nsys-rep", ".txt", ".chrome.json")


def _tool(name: str) -> Literal["torch", "nsys"]:
    if name == "torch":
        return "torch"
    if name == "nsys":
        return "nsys"
    raise BadInput.unknown("profiler", name, ("torch", "nsys"))


def _is_profile(path: Path) -> bool:
    """Whether a file is a trace: of the runners here, of PyTorch's handlers, of nsys."""
    ours = path.name.startswith("trace.") and path.suffix == ".json"
    return path.is_file() and (ours or path.name.endswith(PROFILES))
