"""Gangs on real processes, ended when their test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.launchers.gangs import Gangs, opened


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
