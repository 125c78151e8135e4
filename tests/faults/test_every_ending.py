"""Every way in which a trainer ends, through the whole loop: each gets its own name.

One study whose trials are the modes of `tests/fake_trainer.py`; whatever the others do, the
honest runs are the only ones that may win, and nothing is left alive.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controller.conftest import Cli
from tests.faults.conftest import check_invariants

TRAINER = Path(__file__).parents[1] / "fake_trainer.py"
SPACE = """
name: endings
framework: command
command: [python3, {trainer}, --mode, "{{mode}}", --log-mib, "8", --start-s, "1"]
metric: {{pattern: 'loss: (?P<loss>\\S+) .*tokens/s: (?P<tokens_per_s>[0-9.]+)'}}
parameters: {{mode: {{values: [{modes}]}}}}
baseline: {{mode: ok}}
trial: {{steps: 8, min_steps: 4, warmup_steps: 1, time_limit_s: 60, startup_grace_s: 4,
        hang_floor_s: 3, kill_grace_s: 1, stop_early: false}}
budget: {{finalists: 0}}
"""

ENDINGS = {
    "ok": "ok",
    "slow_start": "ok",
    "oom": "oom_gpu",
    "oom_exit0": "oom_gpu",
    "oom_caught": "ok",
    "figure_then_exit1": "crash",
    "no_figure": "incomplete",
    "truncated": "incomplete",
    "hang_after_steps": "hang",
    "hang_at_start": "hang",
    "ignore_sigterm": "hang",
    "nan": "nan_loss",
    "orphan": "ok",
    "big_log": "ok",
    "port_in_use": "infra",
    "killed": "crash",
    "oom_one_rank_others_hang": "oom_gpu",
    "invalid_config": "invalid_config",
}


def run(cli: Cli, modes: list[str]) -> dict[str, str]:
    cli.write("space.yaml", SPACE.format(trainer=TRAINER, modes=", ".join(modes)))
    cli("run", "--space", "space.yaml", "--study", "s", "--sampler", "random")
    trials = check_invariants(cli, "s")
    return {trial["params"]["mode"]: trial["outcome"] for trial in trials}  # type: ignore[index]


@pytest.mark.slow
def test_each_ending_has_its_own_outcome_and_only_honest_runs_win(cli: Cli) -> None:
    assert run(cli, list(ENDINGS)) == ENDINGS
    winner = cli.json("best", "s")["params"]["mode"]
    assert ENDINGS[winner] == "ok"


def test_what_every_trial_would_fail_on_stops_the_study(cli: Cli) -> None:
    found = run(cli, ["ok", "import_error", "data_missing"])
    assert found == {"ok": "ok", "import_error": "user_error", "data_missing": "user_error"}
