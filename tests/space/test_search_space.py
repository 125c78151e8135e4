"""What a loaded space says of itself: facts, YAML that stands on its own, identity, differences."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

from autotune.space import build_legal_set, load_space, parse_space

from .examples import EITHER, LAYOUT, MY_JOB


@pytest.mark.parametrize("text", [MY_JOB, LAYOUT, EITHER])
def test_to_yaml_stands_on_its_own(text, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_text("{batch}\n\n  two: 'x'\n")
    (tmp_path / "a" / "s.yaml").write_text(
        text + "files: {one: {template: one.txt}}\nenv: {A: 'no', B: '1e-5'}\n"
    )
    space = load_space(tmp_path / "a" / "s.yaml")
    (tmp_path / "copy.yaml").write_text(space.to_yaml())
    monkeypatch.setenv("AUTOTUNE_PATH", "/nowhere")
    again = load_space(tmp_path / "copy.yaml")
    assert again.diff(space) == []
    assert again.fingerprint() == space.fingerprint()
    assert again.to_data() == space.to_data()
    assert (again.files, again.env) == (space.files, space.env)
    assert again.working_directory == str(tmp_path / "a")
    assert len(build_legal_set(again)) == len(build_legal_set(space))


def test_an_override_of_the_gpu_replaces_the_hardware_of_a_resolved_space():
    space = parse_space(LAYOUT)
    other = parse_space(space.to_yaml(), "f", ["cluster.gpu=h100_80gb"])
    assert other.cluster.hardware != space.cluster.hardware


def test_facts_hold_every_name():
    space = parse_space(LAYOUT)
    legal = build_legal_set(space)
    facts = space.facts(legal.config(legal.baseline))
    expected = {
        "tensor_model_parallel_size": 8,
        "recompute_method": "block",
        "world_size": 16,
        "nodes": 2,
        "gpus_per_node": 8,
        "num_layers": 80,
        "head_dim": 128,
        "num_experts": None,
        "global_batch_size": 128,
        "precision": "bf16",
        "data_parallel_size": 1,
        "num_micro_batches": 128,
    }
    assert expected.items() <= facts.items()
    assert {type(value) for value in facts.values()} <= {int, str, bool, float, type(None)}


def test_facts_of_an_opted_in_parameter_are_the_config_s():
    space = parse_space(
        EITHER,
        "f",
        ["contract.search=[global_batch_size]", "parameters.global_batch_size.values=[32, 64]"],
    )
    facts = space.facts({"framework": "megatron", "micro_batch_size": 2, "global_batch_size": 64})
    assert facts["global_batch_size"] == 64
    assert facts["gradient_accumulation_steps"] == 8
    assert facts["zero_stage"] is None


def test_fingerprint_tells_what_is_measured_and_nothing_else():
    base = parse_space(MY_JOB)
    for same in ("budget.trials=99", "name=other", "description=words"):
        assert parse_space(MY_JOB, "f", [same]).fingerprint() == base.fingerprint()
    for other in (
        "parameters.batch.values=[1, 2, 4]",
        "constraints=[]",
        "trial.steps=7",
        "command.1=other.py",
        "env.A=1",
        "baseline.batch=2",
    ):
        assert parse_space(MY_JOB, "f", [other]).fingerprint() != base.fingerprint()


def test_fingerprint_ignores_how_the_values_were_written():
    powers = MY_JOB.replace("values: [1, 2, 4, 8]", "powers_of_two: [1, 8]")
    assert parse_space(MY_JOB).fingerprint() == parse_space(powers).fingerprint()


def test_diff_is_readable():
    base = parse_space(MY_JOB)
    other = parse_space(
        MY_JOB, "f", ["budget.trials=30", "parameters.batch.values=[1, 2]", "env.A=1"]
    )
    assert base.diff(other) == [
        "parameters.batch.values: [1, 2, 4, 8] -> [1, 2]",
        "budget.trials: 20 -> 30",
        'env.A: (absent) -> "1"',
    ]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_spaces_and_legal_sets_can_be_copied(copied):
    space = parse_space(LAYOUT)
    legal = copied(build_legal_set(space))
    assert copied(space).fingerprint() == space.fingerprint()
    assert legal.find(legal.config(3).values) == 3
    assert "breaks" in legal.why_illegal(
        dict(legal.config(legal.baseline).values) | {"tensor_model_parallel_size": 1}
    )


def test_sizes_that_were_not_told_are_not_derived():
    space = parse_space(EITHER.replace("global_batch_size: 32, ", ""))
    legal = build_legal_set(space)
    assert "gradient_accumulation_steps" not in legal.columns()
    assert "gradient_accumulation_steps" not in legal.config(0).derived


def test_long_text_values_stay_small_in_memory():
    long = "x" * 5000
    text = f"name: l\nframework: command\nparameters: {{a: {{values: [{long}, b]}}}}\n"
    legal = build_legal_set(parse_space(text + "constraints: [\"a != 'b'\"]\n"))
    assert legal.column("a").dtype == object
    assert legal.config(0).values == {"a": long}


def test_domains():
    text = "name: d\nframework: command\ncluster: {nodes: 3, gpus_per_node: 4}\nparameters:\n"
    text += "  a: {divisors_of: world_size}\n  b: {divisors_of: 12, min: 2, max: gpus_per_node}\n"
    text += (
        "  c: {powers_of_two: [1, world_size]}\n  d: {range: [0, 1, 0.25]}\n  e: {range: [2, 5]}\n"
    )
    text += (
        "  f: {range: [1, 6, 2]}\n  g: {range: [0.1, 0.5, 0.1]}\n  h: {powers_of_two: [3, 20]}\n"
    )
    assert parse_space(text).choices == {
        "a": (1, 2, 3, 4, 6, 12),
        "b": (2, 3, 4),
        "c": (1, 2, 4, 8),
        "d": (0, 0.25, 0.5, 0.75, 1.0),
        "e": (2, 3, 4, 5),
        "f": (1, 3, 5),
        "g": (0.1, 0.2, 0.3, 0.4, 0.5),
        "h": (4, 8, 16),
    }


def test_importing_a_space_pulls_in_nothing_heavy():
    code = (
        "import sys, autotune.space\n"
        "heavy = {'torch', 'ray', 'plotly', 'optuna', 'scipy', 'pandas'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
