"""`autotune storage`: check, repair, upgrade and copy what studies are recorded in."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from autotune.cli.options import Json, StudyName
from autotune.errors import BadInput

StudyOrUrl = Annotated[str, typer.Argument(help="A study's name, or a storage URL.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        help="Check, repair, upgrade and copy storages.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("check")(check)
    group.command("repair")(repair)
    group.command("upgrade")(upgrade)
    group.command("copy")(copy)
    app.add_typer(group, name="storage")


def url_of(study_or_url: str) -> str:
    """The URL itself, or that of a study by name; BadInput lists the known studies."""
    if "://" in study_or_url:
        return study_or_url
    from autotune.study.paths import StudyPaths, read_json, study_names

    settings = read_json(StudyPaths.named(study_or_url).settings)
    if settings is None:
        raise BadInput.unknown("study", study_or_url, study_names())
    return StudyPaths.named(study_or_url).storage_url(settings)


def check(study: StudyOrUrl, as_json: Json = False) -> None:
    """Check a storage's integrity and count its trials; exit 3 when it is damaged."""
    from autotune.cli import console
    from autotune.study.repair import damage
    from autotune.study.storage import open_storage, redact_url, sqlite_path, storage_errors

    url = url_of(study)
    path = sqlite_path(url)
    wrong = damage(path) if path is not None else None
    counts: dict[str, int] = {}
    if wrong is None:
        storage = open_storage(url)
        with storage_errors(url):
            for found in storage.get_all_studies():
                counts[found.study_name] = storage.get_n_trials(found._study_id)
    report = {"storage": redact_url(url), "damage": wrong, "trials": counts}
    if as_json:
        console.print_json(report)
    elif wrong is None:
        trials = ", ".join(f"{name}: {count} trials" for name, count in counts.items())
        print(f"{report['storage']}: sound ({trials})")
    else:
        print(f"{report['storage']}: damaged: {wrong}")
        print(f"`autotune storage repair {study}` rebuilds it from the trials' own files.")
    if wrong is not None:
        raise typer.Exit(3)


def repair(study: StudyName) -> None:
    """Rebuild a study's database from its trials' files; the damaged one is kept."""
    from autotune.controller import repair_study

    rebuilt, kept = repair_study(study)
    print(f"rebuilt with {len(rebuilt.records())} trials; the damaged database is kept as {kept}")


def upgrade(
    study: StudyOrUrl,
    backup: Annotated[bool, typer.Option(help="Copy a file storage before it is changed.")] = True,
) -> None:
    """Bring a storage to the schema of the installed Optuna, after a backup."""
    from autotune.study.transfer import upgrade as upgrade_storage

    copy = upgrade_storage(url_of(study), with_backup=backup)
    print("upgraded" + (f"; the backup is {copy}" if copy else ""))


def copy(
    source: StudyOrUrl,
    target: Annotated[str, typer.Argument(help="The storage URL to copy into.")],
    study: Annotated[list[str] | None, typer.Option(help="Only these studies.")] = None,
) -> None:
    """Copy studies from one storage into another."""
    from autotune.study.transfer import copy_studies

    for name in copy_studies(url_of(source), target, study):
        print(name)
    sys.stdout.flush()
