"""F38: the dashboard binds loopback unless told otherwise, and refuses foreign Host headers."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from subprocess import Popen
from urllib.parse import urlsplit

import pytest

from autotune.study.dashboard import HostGuard
from tests.controller.conftest import Cli


def _ask(port: int, method: str = "GET", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, "/api/studies", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_f38_only_loopback_and_only_by_its_name(
    cli: Cli, started: Callable[..., Popen[str]]
) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "grid", "--trials", "2")
    server = started("dashboard", "s", "--port", "0")
    try:
        assert server.stdout is not None
        address = urlsplit(server.stdout.readline().strip())
        port = address.port or 0
        assert address.hostname == "127.0.0.1"
        assert _ask(port) == 200
        assert _ask(port, Host=f"localhost:{port}") == 200
        for foreign in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
            assert _ask(port, Host=foreign) == 403, foreign
        own = f"127.0.0.1:{port}"
        assert _ask(port, "POST", Host=own, Origin="http://evil.example") == 403
        assert _ask(port, "POST", Host=own, Origin="null") == 403
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
            other.settimeout(5)
            assert other.connect_ex(("127.0.0.2", port)) != 0
    finally:
        server.terminate()
        _, said = server.communicate(timeout=20)
    assert "WARNING" not in said


def test_f38_every_address_is_warned_of(cli: Cli, started: Callable[..., Popen[str]]) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "grid", "--trials", "2")
    server = started("dashboard", "s", "--port", "0", "--host", "0.0.0.0")
    try:
        assert server.stdout is not None
        port = urlsplit(server.stdout.readline().strip()).port or 0
        assert _ask(port, Host="evil.example") == 403
        assert _ask(port, Host=f"10.1.2.3:{port}") == 200
    finally:
        server.terminate()
        _, said = server.communicate(timeout=20)
    assert "WARNING" in said and "no password" in said


@pytest.mark.parametrize("header", ["[::1", "a@b:c:d", "\x00", "localhost@evil.example"])
def test_f38_odd_hosts_are_refused(header: str) -> None:
    seen: list[str] = []
    guard = HostGuard(lambda _environ, _start: [b"inside"], "127.0.0.1")
    answer = guard({"HTTP_HOST": header}, lambda status, _headers: seen.append(status))
    assert seen == ["403 Forbidden"] and b"inside" not in list(answer)
