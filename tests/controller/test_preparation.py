"""What a program does before its first step is told, is no hang, and costs no GPU time or limit."""

from __future__ import annotations

from tests.controller.conftest import Cli

SPACE = """
name: slow_start
framework: command
command: [sh, "{trial_dir}/run.sh"]
files:
  run.sh: |
    echo 'builds its kernels {batch}' > $AUTOTUNE_TRIAL_DIR/preparing.0
    sleep 4
    rm $AUTOTUNE_TRIAL_DIR/preparing.0
    for i in 1 2 3 4; do sleep 0.05; echo "tokens/s: {batch}00"; done
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}
parameters: {batch: {values: [1]}}
baseline: {batch: 1}
trial: {min_steps: 3, time_limit_s: 3, startup_grace_s: 1, hang_floor_s: 1}
budget: {trials: 1, finalists: 0}
"""


def test_a_long_preparation_is_told_and_is_no_hang_and_no_time_of_the_trial(cli: Cli) -> None:
    cli.write("slow.yaml", SPACE)
    said = cli("run", "--space", "slow.yaml", "--study", "s").stderr
    assert said.count("trial 0 prepares: builds its kernels 1") == 1
    (trial,) = cli.json("status", "s")["trials"]
    assert trial["outcome"] == "ok"
    assert trial["gpu_seconds"] < 3.0
