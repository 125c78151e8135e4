"""F05: killed during an export, a file is the old one or the new one, never half of one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from subprocess import Popen

from tests.controller.conftest import Cli

RUN = ("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random")


def test_f05_killed_during_export(slow: Cli, started: Callable[..., Popen[str]]) -> None:
    slow(*RUN, "--trials", "2")
    slow("export", "s", "-o", "out", "--trial", "0")
    out = slow.folder / "out"
    old = {path.name: path.read_text() for path in out.iterdir()}
    slow("export", "s", "-o", "other", "--trial", "1")
    new = {path.name: path.read_text() for path in (slow.folder / "other").iterdir()}
    draw = random.Random(5)
    for _ in range(6):
        export = started("export", "s", "-o", "out", "--trial", "1")
        time.sleep(draw.uniform(0.5, 1.3))
        export.kill()
        export.communicate()
        for name in old:
            text = (out / name).read_text().replace(str(out), "OUT")
            wanted = (old[name].replace(str(out), "OUT"), new[name])
            assert text in wanted or text.replace("OUT", str(slow.folder / "other")) in wanted
