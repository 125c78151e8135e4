"""`autotune run` and `autotune resume`: search a space, or go on with a search."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.options import (
    Json,
    Overrides,
    Storage,
    StudyName,
    launcher_options,
    open_study,
    python_of_trials,
    storage_url,
)
from autotune.errors import BadInput

if TYPE_CHECKING:
    from autotune.controller import Setting
    from autotune.controller.standing import Result
    from autotune.study.record import Study


def _side_by_side(asked: str | int) -> int:
    text = str(asked)  # the default comes as the number it is
    if text == "auto":
        return 0
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise typer.BadParameter(f"expected a number of trials above 0, or auto, got {text!r}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(resume)


LauncherOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--launcher-option",
        metavar="KEY=VALUE",
        help="An option of the launcher; of resume: for this session.",
    ),
]


def run(
    space: Annotated[str, typer.Option(help="A space's name (`autotune spaces`) or YAML file.")],
    study: Annotated[str | None, typer.Option(help="Name the study; default: a fresh one.")] = None,
    fresh: Annotated[
        bool, typer.Option(help="Keep a study of this name under a numbered one, start afresh.")
    ] = False,
    trials: Annotated[int | None, typer.Option(help="Search at most this many trials.")] = None,
    sampler: Annotated[
        str, typer.Option(help="autotune, or an Optuna sampler: tpe, gp, random, ...")
    ] = "autotune",
    seed: Annotated[int, typer.Option(help="Seed of the search and of the trials.")] = 0,
    launcher: Annotated[
        str | None, typer.Option(help="Where trials run: local, mpi, slurm, ray.")
    ] = None,
    launcher_option: LauncherOptions = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes of the cluster.")] = None,
    parallel: Annotated[
        int,
        typer.Option(
            help="Trials side by side; auto: as many as fit.",
            parser=_side_by_side,
            metavar="N|auto",
        ),
    ] = 1,
    python: Annotated[str | None, typer.Option(help="Python of the training environment.")] = None,
    simulate: Annotated[
        bool | None,
        typer.Option(help="Run on the simulated cluster; default: when there is no GPU."),
    ] = None,
    simulation_seed: Annotated[int, typer.Option(help="Draws the simulated cluster.")] = 0,
    earlier: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STUDY",
            help="Start from what an earlier study taught: other node count, model or GPU.",
        ),
    ] = None,
    storage: Storage = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the first trial; start nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search a space and end with a measured winner."""
    from autotune.controller import Options, prepare, start_from

    changes = list(overrides or [])
    if trials is not None:
        changes.append(f"budget.trials={trials}")
    if nodes is not None:
        changes.append(f"cluster.nodes={nodes}")
    options = Options(
        launcher=launcher,
        launcher_options=launcher_options(launcher_option),
        sampler=sampler,
        seed=seed,
        parallel=parallel,
        python=python_of_trials(python),
        simulation_seed=simulation_seed,
    )
    setting = prepare(space, changes, options, simulate)
    if earlier is not None:
        taught = open_study(earlier, storage)
        setting = start_from(setting, taught)
        taught.close()
    _tell_other_gpu(setting)
    if dry_run:
        from autotune.cli.dry_run import show_dry_run

        show_dry_run(setting, as_json)
        return
    setting.check_place()
    opened = _create(setting, study, fresh, storage)
    _search(opened, setting, as_json)


def resume(
    study: StudyName,
    storage: Storage = None,
    trials: Annotated[int | None, typer.Option(help="Raise the budget to this many.")] = None,
    space: Annotated[
        str | None, typer.Option(help="The space file, to check that it has not changed.")
    ] = None,
    extend: Annotated[
        bool,
        typer.Option("--extend", help="A changed --space: a new study with the old trials."),
    ] = False,
    release: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="A node set aside is mended; `all` for every one."),
    ] = None,
    launcher_option: LauncherOptions = None,
    as_json: Json = False,
) -> None:
    """Go on with a study after Ctrl-C, a crash, or with a larger budget."""
    from autotune.controller import Options, extend_study, prepare_space, release_nodes
    from autotune.space import load_space

    _mend(study)
    opened = open_study(study, storage)
    if release:
        release_nodes(opened, release)
    changes = [f"budget.trials={trials}"] if trials is not None else []
    kept = load_space(str(opened.paths.space), changes)
    options = Options.from_json(opened.settings["options"])
    given = launcher_options(launcher_option)
    options = replace(options, launcher_options={**options.launcher_options, **given})
    wanted = load_space(space, changes) if space is not None else kept
    differences = kept.diff(wanted) if kept.fingerprint() != wanted.fingerprint() else []
    if differences and not extend:
        raise BadInput(
            f"{space} is not the space study {study!r} was started with:\n  "
            + "\n  ".join(differences)
            + "\n--extend starts a new study with what was measured so far; without --space the "
            "study goes on with its own."
        )
    setting = prepare_space(wanted, options)
    setting.check_place()
    if differences:
        opened = extend_study(opened, setting, storage_url(storage))
    _search(opened, setting, as_json)


def _tell_other_gpu(setting: Setting) -> None:
    """Predictions hold for the space's GPU: say where trials here would run on another."""
    from autotune.controller.gpu_here import other_gpu

    if setting.launcher.name != "local" or setting.options.simulated:
        return
    if told := other_gpu(setting.space):
        print(f"autotune: note: {told}", file=sys.stderr)


def _mend(study: str) -> None:
    """Rebuild the study's own SQLite file first when it is damaged, and say so."""
    from autotune.controller import repair_study
    from autotune.study.paths import StudyPaths
    from autotune.study.repair import damage

    paths = StudyPaths.named(study)
    if not paths.exists() or not any(paths.folder.glob("study.db*")):
        return
    wrong = damage(paths.database)
    if wrong is not None:
        rebuilt, kept = repair_study(study)
        print(
            f"autotune: {paths.database} was damaged ({wrong}); rebuilt with "
            f"{len(rebuilt.records())} trials from their own files, kept as {kept.name}",
            file=sys.stderr,
        )
        rebuilt.close()


def _create(setting: Setting, name: str | None, fresh: bool, storage: str | None) -> Study:
    """The study's folder and record, holding nothing yet."""
    from autotune.controller.fingerprint import software
    from autotune.study.paths import StudyPaths, numbered_name
    from autotune.study.record import Study

    paths = StudyPaths.named(name or numbered_name(setting.space.name))
    if fresh and paths.exists():
        Study.open(paths, storage_url(storage)).set_aside(numbered_name(paths.name))
    settings = {
        "options": setting.options.to_json(),
        "direction": "maximize" if setting.maximize else "minimize",
        "metric": setting.space.objective.metric,
        "opted_in": list(setting.space.contract.search),
        "space_name": setting.space.name,
        "space_fingerprint": setting.space.fingerprint(),
        "simulated": setting.options.simulated,
        "software": software(setting.options.python),
    }
    return Study.create(paths, setting.space.to_yaml(), settings, storage_url(storage))


def _search(study: Study, setting: Setting, as_json: bool) -> None:
    """Hold the study, run the loop, print how it ended; exits with the right code."""
    from autotune.cli.ending import print_ending, print_opening
    from autotune.cli.live import Board, LiveScreen, listener_for
    from autotune.controller import Controller

    study.hold()
    try:
        print_opening(study, setting)
        board = Board(setting.space.objective.metric, setting.maximize, setting.space.budget.trials)
        for record in study.records():
            if record.finished:
                board.add(record)
        listener = listener_for(board)
        controller = Controller(study, setting, listener)
        with listener if isinstance(listener, LiveScreen) else nullcontext():
            found = controller.run()
        print_ending(study, setting, found, as_json, interrupted=controller.signals.exit_code != 0)
    finally:
        study.close()
    raise typer.Exit(_exit_code(found, controller.signals.exit_code))


def _exit_code(found: Result, interrupted: int) -> int:
    if interrupted:
        return interrupted
    return 0 if found.winner is not None else 1
