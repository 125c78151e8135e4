"""Bad input: exit 2, one clear message, no traceback, nothing started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controller.conftest import SPACE, Cli, cli

__all__ = ["cli"]


def refused(cli: Cli, *words: str) -> str:
    message = cli(*words, expect=2).stderr
    assert len(message.strip().splitlines()) <= 12
    assert not Path(cli.env["AUTOTUNE_HOME"]).exists() or cli.json("status") == []
    return message


def test_unknown_space_lists_the_known(cli: Cli) -> None:
    message = refused(cli, "run", "--space", "llama70b_tp")
    assert "llama70b_tp_pp" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "bad.yaml:"),
        (SPACE + "no_such_key: 1\n", "no_such_key"),
        (SPACE.replace("min_steps", "min_step"), "min_step"),
        (SPACE + "constraints: ['batch > 100']\n", "batch > 100"),
        (SPACE + "constraints: ['bach > 1']\n", "bach"),
        (SPACE + 'constraints: [\'__import__("os").system("touch pwned")\']\n', "constraints"),
        (SPACE.replace("batch: 1, mode: ok", "batch: 3, mode: ok"), "batch"),
        (SPACE.replace("{batch}", "{bach}"), "bach"),
        (SPACE.replace('"python3"', '"no-such-program-9"'), "no-such-program-9"),
        (SPACE + "cwd: /no/such/folder\n", "/no/such/folder"),
        (SPACE.replace("framework: command", "framework: comand"), "command"),
        (SPACE.replace("(?P<tokens_per_s>", "((?P<tokens_per_s>"), "metric"),
        (SPACE + "name: again\n", "name"),
    ],
)
def test_broken_spaces(cli: Cli, text: str, said: str) -> None:
    cli.write("bad.yaml", text)
    assert said in refused(cli, "run", "--space", "bad.yaml")
    assert not (cli.folder / "pwned").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "trial.no_such=1"),
        ("--set", "nonsense"),
        ("--sampler", "no_such_sampler"),
        ("--launcher", "no_such_launcher"),
        ("--launcher-option", "no_such_option=1"),
        ("--python", "/no/such/python"),
        ("--study", "../escape"),
        ("--storage", "nosuch://x"),
        ("--parallel", "0"),
        ("--simulate",),
    ],
)
def test_broken_options(cli: Cli, words: tuple[str, ...]) -> None:
    refused(cli, "run", "--space", "job.yaml", *words)


def test_a_length_that_no_config_can_hold_is_told_before_anything_runs(cli: Cli) -> None:
    words = ("run", "--dry-run", "--space", "llama8b_tp_pp", "--set")
    assert "none of them is likely to fit" in cli(*words, "contract.seq_length=100000000").stdout
    assert "likely to fit" not in cli(*words, "contract.seq_length=8192").stdout


def test_an_unwritable_home(cli: Cli, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    cli.env["AUTOTUNE_HOME"] = str(blocked / "home")
    assert "AUTOTUNE_HOME" in cli("run", "--space", "job.yaml", expect=2).stderr


def test_unknown_studies_and_trials(cli: Cli) -> None:
    assert "unknown study" in cli("best", "nothing", expect=2).stderr
    cli(
        "run", "--space", "job.yaml", "--study", "s", "--trials", "1", "--set", "budget.finalists=0"
    )
    assert "has no trial 7" in cli("logs", "7", "--study", "s", expect=2).stderr
    assert "bash" in cli("export", "s", "--format", "nope", "-o", "x", expect=2).stderr
