"""Loading a space: references, overrides, and a place for every mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from autotune.errors import BadInput
from autotune.space import list_spaces, load_hardware, load_model, load_space, parse_space

from .examples import EITHER, LAYOUT, MY_JOB

MISTAKES = yaml.safe_load((Path(__file__).parent / "mistakes.yaml").read_text())


def errors(text, *overrides):
    with pytest.raises(BadInput) as caught:
        parse_space(text, "f.yaml", overrides)
    return str(caught.value)


def test_the_example_of_the_issue_works_as_it_stands(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(MY_JOB)
    space = load_space(path)
    assert space.name == "my_job"
    assert space.source == path
    assert space.framework == "command"
    assert space.command == ("python3", "train.py", "--batch", "{batch}", "--compile", "{compile}")
    assert space.choices == {"batch": (1, 2, 4, 8), "compile": (False, True)}
    assert space.baseline == {"batch": 1, "compile": False}
    assert space.working_directory == str(tmp_path)
    assert (space.trial.min_steps, space.trial.time_limit_s) == (3, 60.0)
    assert space.budget.trials == 20


def test_references_are_resolved():
    space = parse_space(LAYOUT)
    assert space.model.num_layers == 80
    assert space.cluster.hardware.memory_gib > 100
    assert space.cluster.world_size == 16
    assert space.choices["tensor_model_parallel_size"] == (1, 2, 4, 8)
    assert space.choices["recompute_num_layers"] == (1, 5, 9)


def test_model_from_a_hugging_face_folder_beside_the_space(tmp_path):
    (tmp_path / "weights").mkdir()
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 100}
    (tmp_path / "weights" / "config.json").write_text(json.dumps(config))
    for reference in ("weights", "weights/config.json", "./weights/config.json"):
        (tmp_path / "s.yaml").write_text(MY_JOB + f"model: {reference}\n")
        assert load_space(tmp_path / "s.yaml").model.ffn_hidden_size == 96


def test_templates_are_read_and_paths_start_at_the_space_file(tmp_path):
    (tmp_path / "run.sh.txt").write_text("echo {batch}\n")
    (tmp_path / "sub").mkdir()
    text = MY_JOB + "files: {run.sh: {template: run.sh.txt}, ds.json: '{}'}\ncwd: sub\n"
    (tmp_path / "s.yaml").write_text(text)
    space = load_space(tmp_path / "s.yaml")
    assert space.files == {"run.sh": "echo {batch}\n", "ds.json": "{}"}
    assert space.cwd == str(tmp_path / "sub")


def test_numbers_and_booleans_become_text_in_command_and_env():
    space = parse_space(
        MY_JOB.replace('"{batch}"', "8, true, 1e-5") + "env: {NCCL_DEBUG: 1, X: off, Y: true}\n"
    )
    assert space.command[3:6] == ("8", "true", "1e-05")
    assert space.env == {"NCCL_DEBUG": "1", "X": "off", "Y": "true"}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake["new"] or "removed")
def test_mistakes_are_told_with_file_line_and_key(mistake):
    assert mistake["old"] in MY_JOB
    message = errors(MY_JOB.replace(mistake["old"], mistake["new"]))
    for part in mistake["says"]:
        assert part in message


def test_every_mistake_is_told_at_once():
    message = errors(
        MY_JOB.replace("trials: 20", "trails: 20").replace("min_steps: 3", "min_steps: x")
    )
    assert "budget.trails" in message
    assert "trial.min_steps" in message


def test_circular_conditions_are_refused():
    text = MY_JOB.replace("{values: [1, 2, 4, 8]}", "{values: [1], when: compile}")
    text = text.replace("{values: [false, true]}", "{values: [true], when: batch == 1}")
    assert "parameters: the `when` conditions of batch, compile depend on each other" in errors(
        text
    )


@pytest.mark.parametrize("text", ["", "- 1", "just text", "3"])
def test_a_space_is_a_mapping(text):
    assert "a space is a mapping" in errors(text)


def test_overrides_go_through_the_same_validation(tmp_path):
    space = parse_space(
        LAYOUT,
        "f",
        [
            "trial.steps=20",
            "parameters.tensor_model_parallel_size.values=[4, 8]",
            "cluster.gpu=h100_80gb",
            "constraints.0=micro_batch_size < 4",
            "options.tokenizer=/data/tok",
            "budget.trials=null",
        ],
    )
    assert space.trial.steps == 20
    assert space.choices["tensor_model_parallel_size"] == (4, 8)
    assert space.cluster.hardware.memory_gib < 100
    assert space.rules[0].expression == "micro_batch_size < 4"
    assert space.rules[1].reason == "a stage holds no more layers"
    assert space.options == {"tokenizer": "/data/tok"}
    assert space.budget.trials is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trial.step=20", "--set trial.step=20: trial.step: unknown key; did you mean 'steps'?"),
        ("trail.steps=20", "--set trail.steps=20: trail: unknown key; did you mean 'trial'?"),
        ("trial.steps=two", '--set trial.steps=two: trial.steps: should be an integer, not "two"'),
        ("trial.steps", "--set trial.steps: has to be key=value"),
        ("=3", "--set =3: has to be key=value"),
        ("trial..steps=3", "has to be key=value"),
        ("name.x=3", "name has no key 'x'"),
        ("constraints.7=a", "constraints has no key 7"),
        ("parameters.bacth.values=[1]", "unknown parameter 'bacth'. Did you mean 'batch'?"),
        ("parameters.batch.values=[1,", "--set parameters.batch.values=[1,:2:1: not valid YAML"),
        ("parameters.batch.values=!!python/name:os.system x", "tag"),
        ("baseline.batch=3", "baseline.batch: batch=3 is not on offer"),
        ("\u00b2=1", "unknown key"),
        (f"constraints.{'9' * 5000}=a", "constraints has no key"),
        ("constraints=['nope > 1']", "constraints.0: expression 'nope > 1': unknown name"),
    ],
)
def test_bad_overrides_name_themselves(override, expected):
    assert expected in errors(MY_JOB, override)


def test_an_opted_in_contract_key_takes_its_baseline_from_the_contract():
    text = MY_JOB + "contract: {global_batch_size: 32}\n"
    assert "part of the contract" in errors(text, "parameters.global_batch_size.values=[32, 64]")
    space = parse_space(
        text,
        "f",
        ["contract.search=[global_batch_size]", "parameters.global_batch_size.values=[32, 64]"],
    )
    assert space.contract.search == ("global_batch_size",)


def test_derived_accumulation_cannot_be_searched():
    text = EITHER.replace("zero_stage: {", "gradient_accumulation_steps: {")
    text = text.replace("zero_stage: 1", "gradient_accumulation_steps: 1")
    assert (
        "gradient_accumulation_steps: gradient_accumulation_steps is derived: global_batch_size //"
        in errors(text)
    )


def test_unknown_spaces_list_the_known_ones(tmp_path, monkeypatch):
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "mine.yaml").write_text(MY_JOB)
    monkeypatch.chdir(tmp_path)
    assert load_space("mine").name == "my_job"
    assert "mine" in list_spaces()
    with pytest.raises(
        BadInput, match=r"unknown space 'mime'\. Did you mean 'mine'\? Known: .*mine"
    ):
        load_space("mime")


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a\0b", "x" * 5000, "mine.", "%2e%2e", "models", "$(id)"]
)
def test_hostile_names_are_unknown_spaces(name):
    with pytest.raises(BadInput, match="unknown space"):
        load_space(name)


@pytest.mark.parametrize(
    "path", ["/nowhere/x.yaml", "../x.yaml", "/dev/zero", "a\0b.yaml", "x/" * 3000]
)
def test_hostile_paths_are_no_files(path):
    with pytest.raises(BadInput, match="no such space file"):
        load_space(path)


def test_a_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(BadInput, match="no such space file"):
        load_space(tmp_path / "pipe.yaml")
    text = MY_JOB + f"files: {{x: {{template: {tmp_path}/pipe.yaml}}}}\n"
    assert "is not a file" in errors(text)


def test_models_and_hardware_by_name():
    assert load_model("gpt2-124m").name == "gpt2-124m"
    assert load_hardware("a100_40gb").name
    with pytest.raises(BadInput, match="unknown GPU"):
        load_hardware("../models/gpt2-124m")


def test_a_broken_model_file_names_its_own_place(tmp_path, monkeypatch):
    folder = tmp_path / "search_spaces" / "models"
    folder.mkdir(parents=True)
    (folder / "bad.yaml").write_text("num_layers: 2\nhidden: 3\n")
    monkeypatch.chdir(tmp_path)
    message = errors(MY_JOB + "model: bad\n")
    assert "f.yaml:12:1: model: " in message
    assert "bad.yaml:2:1: hidden: unknown key; did you mean 'hidden_size'?" in message
