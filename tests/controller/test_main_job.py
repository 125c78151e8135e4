"""The loop over a user's own command: traps never win, nothing repeats, the export runs."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.controller.conftest import TRAINER, Cli


def test_traps_never_win_and_every_outcome_is_named(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "random")
    status = cli.json("status", "s")
    by_mode: dict[str, set[str]] = {}
    for trial in status["trials"]:
        by_mode.setdefault(trial["params"]["mode"], set()).add(trial["outcome"])
    assert by_mode["trap_exit"] == {"crash"}
    assert by_mode["trap_oom"] == {"oom_gpu"}
    assert by_mode["trap_silent"] == {"incomplete"}
    assert by_mode["ok"] == {"ok"}
    best = cli.json("best", "s")
    assert best["params"] == {"batch": 4, "mode": "ok"}
    assert best["gain"] == pytest.approx(4.0, rel=0.01)
    assert best["baseline_tokens_per_s"] == pytest.approx(1000)


def test_no_config_is_searched_twice_and_the_baseline_is_first(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "random")
    trials = cli.json("status", "s")["trials"]
    assert trials[0]["kind"] == "baseline"
    searched = [json.dumps(t["params"]) for t in trials if t["kind"] in ("baseline", "search")]
    assert len(searched) == len(set(searched)) == 12


def test_the_winner_was_measured_again_beside_the_baseline(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "random")
    finals = [t for t in cli.json("status", "s")["trials"] if t["kind"] == "finalist"]
    assert {t["params"]["batch"] for t in finals} >= {1, 4}
    assert all(t["ran_to_end"] for t in finals)


def test_the_exported_script_runs(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "random")
    cli("export", "s", "--format", "bash", "-o", "out folder")
    done = subprocess.run(["./out folder/run.sh"], cwd=cli.folder, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.count("tokens/s: 4000") == 6


def test_a_failed_baseline_is_said_and_the_gain_is_null(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--set", "baseline.mode=trap_exit")
    best = cli.json("best", "s")
    assert best["gain"] is None
    assert best["params"]["batch"] == 4


def test_nothing_may_win_is_exit_1(cli: Cli) -> None:
    overrides = ["--set", "parameters.mode.values=[trap_exit]", "--set", "baseline.mode=trap_exit"]
    done = cli("run", "--space", "job.yaml", "--study", "s", *overrides, expect=1)
    assert "No config may win" in done.stdout
    cli("best", "s", expect=1)


def test_two_user_errors_in_a_row_stop_the_study(cli: Cli) -> None:
    cli.write("train.py", "import no_such_module_anywhere\n")
    cli("run", "--space", "job.yaml", "--study", "s", expect=1)
    trials = cli.json("status", "s")["trials"]
    assert [t["outcome"] for t in trials] == ["user_error", "user_error"]
    cli.write("train.py", TRAINER)
    cli("resume", "s")
    assert cli.json("best", "s")["params"]["mode"] == "ok"


def test_a_fresh_study_keeps_the_old_one_under_a_numbered_name(cli: Cli) -> None:
    run = ["run", "--space", "job.yaml", "--trials", "2", "--set", "budget.finalists=0"]
    cli(*run, "--study", "s", expect=None)
    done = cli(*run, "--study", "s", expect=2)
    assert "autotune resume s" in done.stderr
    cli(*run, "--study", "s", "--fresh", expect=None)
    assert [study["name"] for study in cli.json("status")] == ["s-1", "s"]
    assert len(cli.json("status", "s-1")["trials"]) == 2


def test_resume_with_a_larger_budget_goes_on(cli: Cli) -> None:
    cli(
        "run", "--space", "job.yaml", "--study", "s", "--trials", "3", "--set", "budget.finalists=0"
    )
    cli("resume", "s", "--trials", "5")
    trials = cli.json("status", "s")["trials"]
    assert [t["number"] for t in trials] == list(range(5))


def test_logs_show_what_the_program_wrote(cli: Cli) -> None:
    cli(
        "run", "--space", "job.yaml", "--study", "s", "--trials", "1", "--set", "budget.finalists=0"
    )
    assert cli("logs", "0", "--study", "s").stdout == "tokens/s: 1000\n" * 6


def test_dry_run_starts_nothing(cli: Cli) -> None:
    shown = cli.json("run", "--space", "job.yaml", "--dry-run")
    assert shown["legal"] == 12
    assert shown["command"] == ["python3", "train.py", "--batch", "1", "--mode", "ok"]
    assert cli.json("status") == []


def test_optuna_samplers_by_name(cli: Cli) -> None:
    cli("run", "--space", "job.yaml", "--study", "s", "--sampler", "tpe", "--trials", "12",
        "--set", "budget.finalists=0")  # fmt: skip
    params = [json.dumps(t["params"]) for t in cli.json("status", "s")["trials"]]
    assert len(params) == len(set(params)) == 12
