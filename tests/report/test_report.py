"""The report over a real study: offline, small, honest, the same figures in every format."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from autotune import figures
from autotune.plots import PLOTS, story_of
from autotune.plots.configs import _places
from autotune.report.formats import HERE
from autotune.study.paths import StudyPaths
from autotune.study.record import Study
from autotune.trial import Outcome, TrialRecord
from tests.controller.conftest import Cli, cli

__all__ = ["cli"]

STATIC = HERE / "static"

RUN = ("run", "--space", "job.yaml", "--study", "s", "--sampler", "grid")
EVIL = "</script><script>document.title='pwned'</script>"


def _page(cli: Cli) -> str:
    path = cli("report", "s").stdout.strip()
    return (cli.folder / path).read_text(encoding="utf-8")


def test_the_page_needs_no_network_and_is_small(cli: Cli) -> None:
    cli(*RUN)
    page = _page(cli)
    assert len(page.encode()) < 3_000_000
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=|url\(|@import", own)
    assert "default-src 'none'" in own and "SIMULATED" not in own
    best = cli.json("best", "s")
    assert "4,000" in own and best["tokens_per_s"] == pytest.approx(4000)
    assert "exit" in own and "oom_gpu" in own


def test_formats_tell_the_same(cli: Cli) -> None:
    cli(*RUN)
    told = cli.json("status", "s")["trials"]
    document = json.loads(cli("report", "s", "--format", "json", "-o", "-").stdout)
    rows = list(
        csv.DictReader(io.StringIO(cli("report", "s", "--format", "csv", "-o", "-").stdout))
    )
    text = cli("report", "s", "--format", "md", "-o", "-").stdout
    assert [t["number"] for t in document["trials"]] == [t["number"] for t in told]
    assert [row["outcome"] for row in rows] == [t["outcome"] for t in told]
    assert document["winner"] == cli.json("best", "s")["trial"]
    assert document["gain"]["value"] == pytest.approx(4.0)
    assert "4.00 times the baseline" in text and text.count("| ok") >= 3
    cli("report", "s", "--format", "pdf", expect=2)


def test_every_plot_asks_and_answers_and_is_a_figure_plotly_accepts(cli: Cli) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    cli(*RUN)
    story = story_of(Study.open(StudyPaths(Path(cli.env["AUTOTUNE_HOME"]) / "studies" / "s")))
    drawn = {name: plot for name, make in PLOTS.items() if (plot := make(story)) is not None}
    assert {"best_so_far", "failures", "timeline", "feasibility", "best_configs"} <= set(drawn)
    for plot in drawn.values():
        assert plot.question.endswith("?") and plot.answer.endswith(".")
        graph_objects.Figure(plot.figure)
        json.dumps(plot.figure, allow_nan=False)
    assert "importance" not in drawn, "hidden where there is too little data"


def test_words_stand_on_an_axis_in_one_order_whatever_the_hash_seed() -> None:
    words = ["selective", "none", "full", "block", "uniform", "eager"]
    records = [TrialRecord(n, {"recompute": word}, "") for n, word in enumerate(words)]
    places = _places(records, "recompute")
    assert sorted(words, key=places.__getitem__) == sorted(words)


def test_nothing_of_a_log_becomes_markup(cli: Cli) -> None:
    """Neither in the page nor in a terminal, where brackets would be rich's."""
    said = f"RuntimeError: [rank3] [/bold] {EVIL}"
    cli.write("train.py", f"import sys\nsys.exit({said!r})\n")
    ended = cli(*RUN, "--trials", "1", expect=1)
    page = _page(cli)
    assert EVIL not in page
    assert "[rank3] [/bold]" in ended.stdout + cli("status", "s").stdout


def test_reasons_are_short_and_say_each_thing_once() -> None:
    told = "oom_gpu (rank 0, 1): [rank1]: torch.OutOfMemoryError: " + "CUDA out of memory " * 20
    record = TrialRecord(0, {}, "", outcome=Outcome.OOM_GPU, outcome_reason=told)
    assert figures.why(record).startswith("rank 0, 1: torch.OutOfMemoryError: CUDA")
    assert len(figures.why(record)) <= figures.WHY
    other = TrialRecord(0, {}, "", outcome=Outcome.CRASH, outcome_reason="nccl (rank 2): gone")
    assert figures.why(other) == "nccl, rank 2: gone"


def test_the_bundle_is_the_one_plotly_py_speaks_to() -> None:
    offline = pytest.importorskip("plotly.offline")
    ours = (STATIC / "plotly-cartesian.min.js").read_text(encoding="utf-8")[:2000]
    found = re.search(r"plotly\.js \(cartesian[^)]*\) v(\d+)\.", ours)
    assert found is not None, ours[:200]
    assert offline.get_plotlyjs_version().split(".")[0] == found.group(1)


def test_a_browser_draws_it(cli: Cli, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        assert not os.environ.get("AUTOTUNE_REQUIRE_ALL"), "chromium is not installed"
        pytest.skip("chromium is not installed")
    cli(*RUN)
    _page(cli)
    dom = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=8000", "--dump-dom",
         f"file://{cli.folder}/s.html"],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    assert dom.count('class="main-svg"') >= 4
