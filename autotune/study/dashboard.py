"""optuna-dashboard over a study, served so that only its user's own browser can reach it.

optuna-dashboard asks for no password, so it listens on loopback, and requests that name a
foreign host (a web page that rebinds its own name to 127.0.0.1) or come from a foreign origin
are refused before it sees them.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from autotune.errors import BadInput
from autotune.study.paths import make_private_folder
from autotune.study.storage import storage_errors

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from autotune.study.record import Study

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
LOOPBACK = ("localhost", "127.0.0.1", "::1")
WILDCARDS = ("0.0.0.0", "::", "")
NOTE_CHARACTERS = 2045
"""The most that optuna-dashboard keeps in one attribute of a note."""
PLOT_PREFIX = "autotune-"
OURS = "*Written by autotune. Without this line the note is yours and stays as it is.*"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host in LOOPBACK or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class HostGuard:
    """Passes on requests that name this server by a name it was given; 403 for all others.

    Bound to every address, it also answers to this host's name and to addresses, which no name
    can be rebound to.
    """

    def __init__(self, inner: Application, host: str) -> None:
        self._inner = inner
        self._names = {*LOOPBACK, host.lower()}
        self._wildcard = host in WILDCARDS
        if self._wildcard:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        named = str(environ.get("HTTP_HOST", ""))
        origin = environ.get("HTTP_ORIGIN")
        if self._is_ours(named) and (origin is None or urlsplit(origin).netloc == named):
            return self._inner(environ, start_response)
        text = b"autotune: this dashboard does not answer to that host or origin.\n"
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [text]

    def _is_ours(self, named: str) -> bool:
        try:
            name = urlsplit(f"//{named}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (self._wildcard and _is_address(name))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    address_family = socket.AF_INET


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nobody's concern."""


def serve(study: Study, host: str, port: int) -> WSGIServer:
    """A server that listens already; ``serve_forever`` answers. BadInput when it cannot bind."""
    try:
        return make_server(
            host,
            port,
            HostGuard(application(study), host),
            server_class=_Server6 if ":" in host else _Server,
            handler_class=_Quiet,
        )
    except (OSError, OverflowError) as error:
        raise BadInput(f"{host}:{port}: cannot listen there ({error}). Give --port.") from error


def application(study: Study) -> Application:
    """optuna-dashboard's own application over the study's storage and artifacts."""
    from optuna.artifacts import FileSystemArtifactStore
    from optuna_dashboard import wsgi

    make_private_folder(study.paths.artifacts)
    store = FileSystemArtifactStore(study.paths.artifacts)
    made: Application = wsgi(study.storage, artifact_store=store)
    return made


def write_note(study: Study, number: int | None, text: str) -> bool:
    """Write the Markdown note of a trial, or of the study (None); whether it was written.

    A note whose last line is not ours belongs to a person and is left alone.
    """
    prefix = "dashboard:" if number is None else f"dashboard:{study.trial_id(number)}:"
    body = f"{text[: NOTE_CHARACTERS - len(OURS) - 2].rstrip()}\n\n{OURS}"
    with storage_errors(study.url):
        kept = study.storage.get_study_system_attrs(study.study_id)
        before = str(kept.get(f"{prefix}note_str:0", ""))
        if before == body or (before and not before.endswith(OURS)):
            return False
        put = study.storage.set_study_system_attr
        put(study.study_id, f"{prefix}note_ver", int(kept.get(f"{prefix}note_ver", 0)) + 1)
        put(study.study_id, f"{prefix}note_str:0", body)
    return True


def save_plot(study: Study, name: str, figure: go.Figure) -> bool:
    """Keep a plot on the study's page, in place of the last of that name; whether it changed."""
    import optuna
    from optuna_dashboard import save_plotly_graph_object

    identity = f"{PLOT_PREFIX}{name}"
    text = figure.to_json()
    with storage_errors(study.url):
        kept = study.storage.get_study_system_attrs(study.study_id)
        parts = (kept.get(f"dashboard:plot_data:{identity}:{at}", "") for at in range(len(kept)))
        if "".join(map(str, parts)) == text:
            return False
        opened = optuna.load_study(
            study_name=study.storage.get_study_name_from_id(study.study_id), storage=study.storage
        )
        save_plotly_graph_object(opened, figure, graph_object_id=identity)
    return True


def bound_url(server: WSGIServer) -> str:
    """Where a browser finds the server."""
    host, port = str(server.server_address[0]), server.server_address[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
