"""F35: shell metacharacters in values, names and paths are words, in trials and in exports."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.controller.conftest import Cli
from tests.controller.conftest import Cli as Terminal
from tests.faults.conftest import check_invariants

EVIL = ["$(touch pwned)", "`touch pwned`", "; touch pwned", "a b'c\"d", "*", "-n", "\\n", "x\ny"]
PROGRAM = """
import sys
from pathlib import Path
Path("seen.txt").open("a").write(repr(sys.argv[1]) + "\\n")
for _ in range(6):
    print("tokens/s: 100", flush=True)
"""


def test_f35_values_reach_the_program_as_they_are(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "odd $(touch pwned) folder's"
    folder.mkdir()
    user = Terminal(folder, tmp_path / "home")
    user.write("program.py", PROGRAM)
    values = ", ".join(f'"{_yaml(value)}"' for value in EVIL)
    user.write(
        "space.yaml",
        f"""
        name: evil
        framework: command
        command: ["python3", "program.py", "{{text}}"]
        metric: {{pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}}
        parameters: {{text: {{values: [{values}]}}}}
        baseline: {{text: "{_yaml(EVIL[0])}"}}
        trial: {{min_steps: 3, time_limit_s: 60}}
        budget: {{finalists: 0}}
        """,
    )
    user("run", "--space", "space.yaml", "--study", "s", "--sampler", "random")
    assert len(check_invariants(user, "s")) == len(EVIL)
    seen = (folder / "seen.txt").read_text().splitlines()
    assert sorted(seen) == sorted(repr(value) for value in EVIL)
    for number in range(len(EVIL)):
        user("export", "s", "--trial", str(number), "-o", f"out {number}; touch pwned")
        script = folder / f"out {number}; touch pwned" / "run.sh"
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", str(script)], check=True)
        subprocess.run([str(script)], check=True, cwd=folder, capture_output=True)
    again = (folder / "seen.txt").read_text().splitlines()[len(EVIL) :]
    assert sorted(again) == sorted(seen)
    assert not list(tmp_path.rglob("pwned"))


def _yaml(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@pytest.mark.parametrize("name", ["$(id)", "a;b", "a b", "../x", "-rf"])
def test_f35_f37_odd_study_names_are_refused(cli: Cli, name: str) -> None:
    cli("run", "--space", "job.yaml", f"--study={name}", expect=2)
    assert not Path(cli.env["AUTOTUNE_HOME"]).exists()
