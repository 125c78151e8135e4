"""Which tests may not run beside each other."""

from __future__ import annotations

import re

import pytest

RAY = re.compile(r"(?<![a-z])(ray|tune)")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that start a Ray go to one worker: two heads on one host take each other's ports."""
    for item in items:
        if RAY.search(item.nodeid.lower()):
            item.add_marker(pytest.mark.xdist_group("ray"))
