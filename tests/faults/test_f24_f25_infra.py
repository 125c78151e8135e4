"""F24, F25: broken hardware and a taken port are not the config's fault."""

from __future__ import annotations

from pathlib import Path

from tests.controller.conftest import Cli
from tests.faults.conftest import check_invariants

STEPS = 'for _ in range(6):\n    print("tokens/s: 100", flush=True)\n'
SPACE = """
name: infra
framework: command
command: ["python3", "program.py", "{batch}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters: {batch: {values: [1]}}
baseline: {batch: 1}
trial: {min_steps: 3, time_limit_s: 60}
budget: {finalists: 0}
"""


def fails_until(marker: Path, times: int, line: str) -> str:
    """A program that prints a line and dies the first few times, then trains."""
    return (
        f"from pathlib import Path\nimport os, sys\nmarker = Path({str(marker)!r})\n"
        "count = len(marker.read_text()) if marker.exists() else 0\n"
        f"if count < {times}:\n    marker.write_text('x' * (count + 1))\n"
        f"    print({line!r}, flush=True)\n"
        "    with marker.with_name('ports').open('a') as ports:\n"
        "        print(os.environ['MASTER_PORT'], file=ports)\n"
        "    sys.exit(1)\n" + STEPS
    )


BUSY = (
    "torch.distributed.DistNetworkError: The server socket has failed to listen on any local "
    "network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, "
    "message: address already in use"
)
XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python, GPU has fallen off the bus."


def test_f25_a_taken_port_is_tried_again(cli: Cli, tmp_path: Path) -> None:
    cli.write("space.yaml", SPACE)
    cli.write("program.py", fails_until(tmp_path / "count", 2, BUSY))
    said = cli("run", "--space", "space.yaml", "--study", "s").stderr
    (trial,) = check_invariants(cli, "s")
    assert (trial["outcome"], trial["attempt"]) == ("ok", 3)
    assert "trying again (2 of 2)" in said


def test_f25_but_not_forever(cli: Cli, tmp_path: Path) -> None:
    cli.write("space.yaml", SPACE)
    cli.write("program.py", fails_until(tmp_path / "count", 9, BUSY))
    cli("run", "--space", "space.yaml", "--study", "s", expect=1)
    (trial,) = check_invariants(cli, "s")
    assert (trial["outcome"], trial["attempt"]) == ("infra", 3)
    assert len(set((tmp_path / "ports").read_text().split())) == 3, "each on a port of its own"


def test_f25_three_trials_in_a_row_end_the_study(cli: Cli, tmp_path: Path) -> None:
    cli.write("space.yaml", SPACE.replace("[1]", "[1, 2, 3, 4, 5]"))
    cli.write("program.py", fails_until(tmp_path / "count", 99, BUSY))
    said = cli("run", "--space", "space.yaml", "--study", "s", expect=1).stdout
    assert "3 trials in a row failed" in said
    assert [t["outcome"] for t in check_invariants(cli, "s")] == ["infra"] * 3


def test_f24_broken_hardware_sets_the_node_aside(cli: Cli, tmp_path: Path) -> None:
    cli.write("space.yaml", SPACE)
    cli.write("program.py", fails_until(tmp_path / "count", 1, XID))
    said = cli("run", "--space", "space.yaml", "--study", "s", expect=3).stderr
    assert "set aside" in said and "Xid" in said
    cli("resume", "s")
    (trial,) = check_invariants(cli, "s")
    assert (trial["outcome"], trial["attempt"]) == ("ok", 2)
