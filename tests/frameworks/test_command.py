"""`framework: command`: placeholders, what is left out, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.errors import BadInput
from autotune.frameworks import RenderContext, get_framework
from autotune.space import build_legal_set, load_space, parse_space
from autotune.trial import StepSample

COMMAND = get_framework("command")

MY_JOB = """
name: my_job
framework: command
command: ["python3", "train.py", "--batch", "{batch}", "--compile", "{compile}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}   # one match a step
parameters:
  batch: {values: [1, 2, 4, 8]}
  compile: {values: [false, true]}
constraints: ["not (compile and batch == 1)"]
baseline: {batch: 1, compile: false}
trial: {min_steps: 3, time_limit_s: 60}
budget: {trials: 20}
"""


def context(tmp_path: Path) -> RenderContext:
    return RenderContext(trial_dir=tmp_path / "trials" / "0001", python="/env/bin/python", seed=7)


def rendered(text: str, tmp_path: Path, **values):
    """(space, job) of the legal config that has these values."""
    space = parse_space(text)
    legal = build_legal_set(space, COMMAND.rules(space))
    wanted = [
        config
        for config in map(legal.config, range(len(legal)))
        if all(config[name] == value for name, value in values.items())
    ]
    assert wanted, f"no legal config with {values}"
    return space, COMMAND.render(space, wanted[0], context(tmp_path))


def test_the_issues_own_space_works_as_it_stands(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(MY_JOB)
    space = load_space(path)
    legal = build_legal_set(space, COMMAND.rules(space))
    assert len(legal) == 7
    job = COMMAND.render(space, legal.config(legal.find(space.baseline)), context(tmp_path))
    assert job.argv == ("python3", "train.py", "--batch", "1", "--compile", "false")
    assert job.cwd == str(tmp_path)
    assert job.time_limit_s == 60
    assert job.per == "job"


def test_its_metric_reads_one_step_a_line(tmp_path):
    from autotune.logs import Parser

    parser = Parser(COMMAND.log_format(parse_space(MY_JOB)))
    samples: list[StepSample] = []
    for number, line in enumerate(["loading", "tokens/s: 12.5", "tokens/s: 13"]):
        samples += parser.feed(line, float(number), 0)
    samples += parser.finish()
    assert [sample.tokens_per_s for sample in samples] == [12.5, 13.0]


TEMPLATED = """
name: templated
framework: command
command: [sh, "{trial_dir}/run.sh", "{{literal}}", "--seed={seed}"]
metric: {format: deepspeed}
files:
  run.sh: |
    export HOME_OF=${HOME}
    exec {python} train.py --micro {micro} --steps {steps} --world {world_size}
  ds_config.json: |
    {"train_micro_batch_size_per_gpu": {micro}, "bf16": {"enabled": {bf16}}, "x": {}}
env: {NCCL_ALGO: "{algo}", PYTORCH_CUDA_ALLOC_CONF: "max_split_size_mb:{split}"}
parameters:
  micro: {values: [1, 2]}
  bf16: {values: [false, true]}
  algo: {values: [Ring, Tree]}
  split: {values: [64, 128], when: bf16}
baseline: {micro: 1, bf16: false, algo: Ring}
trial: {steps: 9}
"""


def test_files_and_environment_take_values_and_keep_their_own_braces(tmp_path):
    _, job = rendered(TEMPLATED, tmp_path, micro=2, bf16=True, algo="Tree", split=64)
    trial_dir = tmp_path / "trials" / "0001"
    assert job.argv == ("sh", f"{trial_dir}/run.sh", "{literal}", "--seed=7")
    assert job.files["ds_config.json"] == (
        '{"train_micro_batch_size_per_gpu": 2, "bf16": {"enabled": true}, "x": {}}\n'
    )
    assert job.files["run.sh"] == (
        "export HOME_OF=${HOME}\nexec /env/bin/python train.py --micro 2 --steps 9 --world 1\n"
    )
    assert job.env == {"NCCL_ALGO": "Tree", "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}
    assert job.total_steps == 9


def test_a_variable_of_an_inactive_parameter_is_left_out(tmp_path):
    _, job = rendered(TEMPLATED, tmp_path, bf16=False)
    assert set(job.env) == {"NCCL_ALGO"}


CONDITIONAL = """
name: conditional
framework: command
command: [train, "--method", "{method}", "--keep", "--layers={layers}", "{layers}", "-x", "{on}"]
parameters:
  on: {values: [false, true]}
  method: {values: [uniform, block], when: on}
  layers: {values: [1, 2], when: on}
baseline: {on: false}
"""


def test_an_inactive_value_takes_its_flag_along_and_no_more(tmp_path):
    _, off = rendered(CONDITIONAL, tmp_path, on=False)
    assert off.argv == ("train", "--keep", "-x", "false")
    _, on = rendered(CONDITIONAL, tmp_path, on=True, method="block", layers=2)
    assert on.argv == (*("train", "--method", "block", "--keep", "--layers=2", "2", "-x", "true"),)


@pytest.mark.parametrize("text", [MY_JOB, TEMPLATED, CONDITIONAL])
def test_every_config_reads_back_from_what_was_rendered(text, tmp_path):
    space = parse_space(text)
    legal = build_legal_set(space, COMMAND.rules(space))
    for index in range(len(legal)):
        config = legal.config(index)
        job = COMMAND.render(space, config, context(tmp_path))
        active = {name: value for name, value in config.values.items() if value is not None}
        assert COMMAND.read_back(space, job) == active


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"{batch}"', '"{bacth}"', ["bacth", "Did you mean 'batch'", "command"]),
        ('"{compile}"', '"on"', ["compile", "appears nowhere"]),
        ("budget: {trials: 20}", "options: {shell: true}", ["shell", "per"]),
        ("budget: {trials: 20}", "options: {per: gpu}", ["gpu", "node", "rank"]),
        ("budget: {trials: 20}", 'files: {a.json: "{{ batch }}"}', ["Jinja", "{batch}"]),
        ('"--batch"', '"--batch }"', ["}}"]),
        (
            "framework: command\ncommand",
            "framework: command\nenv: {A: '{nope}'}\ncommand",
            ["nope"],
        ),
    ],
)
def test_what_cannot_be_rendered_is_said_before_anything_starts(old, new, words, tmp_path):
    assert old in MY_JOB
    space = parse_space(MY_JOB.replace(old, new))
    with pytest.raises(BadInput) as caught:
        legal = build_legal_set(space, COMMAND.rules(space))
        COMMAND.render(space, legal.config(0), context(tmp_path))
    for word in words:
        assert word in str(caught.value)


def test_shell_metacharacters_are_only_text(tmp_path):
    text = (
        MY_JOB.replace("[1, 2, 4, 8]", "['$(touch x)', '; rm -rf /']")
        .replace('constraints: ["not (compile and batch == 1)"]', "")
        .replace("batch: 1,", "batch: '$(touch x)',")
    )
    _, job = rendered(text, tmp_path, batch="; rm -rf /")
    assert job.argv[3] == "; rm -rf /"


def test_a_derived_size_stands_for_the_parameters_behind_it(tmp_path):
    text = """
name: derived
framework: command
command: [train, "--accumulate", "{gradient_accumulation_steps}"]
contract: {global_batch_size: 16}
parameters: {micro_batch_size: {values: [1, 2, 4]}}
baseline: {micro_batch_size: 1}
"""
    _, job = rendered(text, tmp_path, micro_batch_size=4)
    assert job.argv == ("train", "--accumulate", "4")
