"""Gangs on real processes, ended when their test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from autotune.launchers import launcher_names
from tests.engines import two_hosts
from tests.launchers.gangs import Gangs, engine, need, opened


@pytest.fixture
def make_gangs(tmp_path: Path) -> Iterator[Callable[..., Gangs]]:
    """A factory of Gangs by launcher name and options; all of them are ended afterwards."""
    with ExitStack() as stack:
        count = iter(range(1000))

        def make(name: str = "local", options: dict[str, Any] | None = None) -> Gangs:
            folder = tmp_path / f"gangs-{next(count)}"
            return stack.enter_context(opened(name, folder, options))

        yield make


@pytest.fixture
def local(make_gangs: Callable[..., Gangs]) -> Gangs:
    """Gangs of the local launcher."""
    return make_gangs("local")


@pytest.fixture(scope="session")
def engine_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Options of a launcher by name, its engine (tests/engines/NAME.py) brought up once."""
    with ExitStack() as stack:
        known: dict[str, dict[str, Any]] = {}

        def options(name: str) -> dict[str, Any]:
            module = engine(name)
            if module is None:
                return {}
            reason = module.missing()
            if reason:
                need(reason)
            if name not in known:
                folder = tmp_path_factory.mktemp(f"engine-{name}")
                known[name] = stack.enter_context(module.started(folder))
            return dict(known[name])

        yield options


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[two_hosts.TwoHosts]:
    """Two hosts with a network between them."""
    reason = two_hosts.missing()
    if reason:
        need(reason)
    with two_hosts.started(tmp_path) as pair:
        yield pair


@pytest.fixture(params=launcher_names())
def anywhere(
    request: pytest.FixtureRequest, engine_options: Callable[[str], Any], make_gangs: Any
) -> Gangs:
    """Gangs of every launcher there is, each in turn."""
    options = {"grace_s": 1.0, "peer_grace_s": 1.0, **engine_options(request.param)}
    return make_gangs(request.param, options)
