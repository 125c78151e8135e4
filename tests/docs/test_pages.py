"""The manual: it builds without a warning, and says what the program says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from autotune.export import exporter_names
from autotune.report.formats import NAMES as REPORTS
from autotune.trial import Outcome

from .blocks import ROOT

DOCS = ROOT / "docs"


def test_it_builds_strictly(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert (tmp_path / "spaces" / "index.html").is_file()


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(next(iter(item.values())) for item in nav) == sorted(
        path.name for path in DOCS.glob("*.md")
    )


def test_every_outcome_is_told() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (DOCS / "outcomes.md").read_text(), re.MULTILINE)
    assert rows == [outcome.value for outcome in Outcome]


def test_every_export_is_told() -> None:
    page = (DOCS / "reports.md").read_text()
    table = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", table)) >= set(exporter_names())
    assert all(name in page for name in REPORTS)
