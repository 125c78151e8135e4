"""F34: a canary in a secret-looking variable, or in a URL, is found nowhere afterwards."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

from tests.controller.conftest import Cli
from tests.faults.conftest import SLOW_SPACE, check_invariants, folder_of, wait_for_trials

CANARY = "canary-7f3a9c-do-not-tell"
LEAKY = """
import os, sys, time
print("my token is", os.environ.get("HF_TOKEN"), flush=True)
for _ in range(6):
    time.sleep(0.05)
    print("tokens/s: 100", flush=True)
"""


def test_f34_nothing_tells_the_secret(slow: Cli, started: Callable[..., Popen[str]]) -> None:
    slow.env["HF_TOKEN"] = CANARY
    slow.env["WANDB_API_KEY"] = CANARY
    slow.write("slow.py", LEAKY)
    space = SLOW_SPACE + "launcher_options: {pass_env: [HF_TOKEN]}\n"
    slow.write("slow.yaml", space)
    run = started("run", "--space", "slow.yaml", "--study", "s", "--trials", "2", **slow.env)
    wait_for_trials(slow, "s", 1)
    time.sleep(0.1)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert CANARY not in listed.stdout
    said = "".join(run.communicate(timeout=120))
    assert run.returncode == 0, said
    assert CANARY not in said
    slow("export", "s", "-o", "out")
    slow("report", "s", "-o", "out/report.html")
    assert CANARY not in slow("explain", "s:0").stdout
    assert CANARY not in json.dumps(check_invariants(slow, "s"))
    for root in (folder_of(slow, "s"), slow.folder / "out"):
        for path in root.rglob("*"):
            if path.is_file():
                assert CANARY.encode() not in path.read_bytes(), path
    logs = "".join(slow("logs", "0", "--study", "s").stdout)
    assert "my token is ***" in logs


def test_f34_a_password_in_a_url_is_not_kept(tmp_path: Path) -> None:
    from autotune.study.storage import redact_url

    url = f"postgresql://tuner:{CANARY}@db.example:5432/studies?sslmode=require"
    assert CANARY not in redact_url(url)
    assert "tuner" in redact_url(url) and "db.example" in redact_url(url)
