"""`autotune dashboard`: optuna-dashboard over a study, for its user's own browser."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.options import Storage, StudyName, open_study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotune.study.record import Study
    from autotune.trial import TrialRecord

REFRESH_S = 15.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(dashboard)


def dashboard(
    study: StudyName,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8080,
    storage: Storage = None,
) -> None:
    """Serve optuna-dashboard with the study's trials, plots, notes and artifacts until Ctrl-C."""
    from autotune.study.dashboard import bound_url, is_loopback, serve

    opened = open_study(study, storage)
    server = serve(opened, host, port)
    if not is_loopback(host):
        print(
            f"autotune: WARNING: {host} is reachable from other machines and optuna-dashboard asks "
            "for no password: whoever reaches it can read and delete this study. Rather forward "
            f"a port: ssh -L {port}:127.0.0.1:{port} THIS_HOST",
            file=sys.stderr,
        )
    _keep_up(opened)
    print(f"{bound_url(server)}dashboard/studies/{opened.study_id}", flush=True)
    print("Ctrl-C ends it; the study goes on.", file=sys.stderr)
    try:
        server.serve_forever()
    finally:
        server.server_close()


def _keep_up(study: Study) -> None:
    """Write notes and plots now, and again while somebody looks, whenever a trial was told."""
    from autotune.errors import InfrastructureError
    from autotune.report.notes import save_plots, write_notes

    write_notes(study)
    save_plots(study)

    def again() -> None:
        while True:
            threading.Event().wait(REFRESH_S)
            try:
                told = _told(study.records())
                study.load()
                write_notes(study)
                if _told(study.records()) != told:
                    save_plots(study)
            except InfrastructureError as error:
                print(f"autotune: {error}", file=sys.stderr)

    threading.Thread(target=again, daemon=True).start()


def _told(records: Sequence[TrialRecord]) -> int:
    return sum(record.finished for record in records)
