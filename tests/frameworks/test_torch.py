"""`framework: torch`: what is rendered, where it came from, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autotune.config import Config
from autotune.errors import BadInput
from autotune.frameworks import RenderContext, get_framework
from autotune.space import build_legal_set, load_space, parse_space

TORCH = get_framework("torch")
RUNNERS = Path(__file__).resolve().parents[2] / "runners"

SPACE = """
name: small
framework: torch
runner: gpt_torch
model: tiny-gpt
contract: {global_batch_size: 8, seq_length: 64, precision: fp32, optimizer: adamw}
parameters:
  micro_batch_size: {values: [1, 2]}
  compile: {values: [false, true]}
  compile_mode: {values: [default, max-autotune-no-cudagraphs], when: compile}
baseline: {micro_batch_size: 1, compile: false}
options: {flags: {clip_grad: 0.5}}
env: {NCCL_NTHREADS: "{micro_batch_size}", MODE: "{compile_mode}"}
trial: {steps: 7, time_limit_s: 50}
"""


def context(tmp_path: Path, **changes) -> RenderContext:
    trial_dir = tmp_path / "study" / "trials" / "0003"
    return RenderContext(trial_dir=trial_dir, python="/env/python", seed=5, **changes)


def baseline(space) -> Config:
    legal = build_legal_set(space, TORCH.rules(space))
    return legal.config(legal.find(space.baseline))


def flag(job, name: str) -> str:
    return job.argv[job.argv.index(name) + 1]


def test_every_value_is_a_flag_of_its_own_name_with_its_source(tmp_path):
    space = parse_space(SPACE)
    job = TORCH.render(space, baseline(space), context(tmp_path))
    assert job.argv[:2] == ("/env/python", str(RUNNERS / "gpt_torch" / "train.py"))
    told = {
        "--micro-batch-size": ("1", "parameter"),
        "--compile": ("false", "parameter"),
        "--global-batch-size": ("8", "contract"),
        "--precision": ("fp32", "contract"),
        "--num-layers": ("4", "model"),
        "--clip-grad": ("0.5", "options.flags"),
        "--steps": ("7", "trial.steps"),
        "--seed": ("5", "autotune"),
    }
    for name, (value, source) in told.items():
        assert flag(job, name) == value
        assert job.sources[name] == source
    assert "--compile-mode" not in job.argv
    assert (job.total_steps, job.time_limit_s, job.per) == (7, 50, "job")


def test_a_trials_kernels_are_kept_in_its_study_and_its_environment_takes_values(tmp_path):
    space = parse_space(SPACE)
    job = TORCH.render(space, baseline(space), context(tmp_path))
    assert job.env == {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "study" / "torchinductor_cache"),
        "NCCL_NTHREADS": "1",
    }
    exported = TORCH.render(space, baseline(space), context(tmp_path, purpose="export"))
    assert str(tmp_path) not in " ".join([*exported.argv, *exported.env.values()])


def test_several_gpus_start_one_rank_each(tmp_path):
    space = parse_space(SPACE, overrides=("cluster.gpus_per_node=4",))
    job = TORCH.render(space, baseline(space), context(tmp_path))
    assert (job.per, job.world_size) == ("rank", 4)


@pytest.mark.parametrize("tool", ["torch", "nsys"])
def test_a_profile_lands_in_the_trials_folder(tool, tmp_path):
    space = parse_space(SPACE)
    asked = context(tmp_path, profiler=tool)
    job = TORCH.render(space, baseline(space), asked)
    assert flag(job, "--profiler") == tool
    assert flag(job, "--profile-dir") == str(asked.trial_dir / "profile")
    assert (job.argv[0] == "nsys") == (tool == "nsys")
    assert TORCH.read_back(space, job)["micro_batch_size"] == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("parameters.compile.values=[false, yes]", ["compile", "bool"]),
        ("parameters.compile_mode.values=[fastest]", ["fastest", "reduce-overhead"]),
        ("contract.precision=fp16", ["fp16", "bf16"]),
        ("contract.optimizer=sgd", ["sgd", "adamw"]),
        ("options.flags={micro_batch_size: 1}", ["micro_batch_size", "options.flags"]),
        ("options.flags={warp_speed: 9}", ["warp_speed", "Known"]),
        ("options.flagz={}", ["flagz", "flags"]),
        ("runner=no_such_runner", ["no_such_runner", "train.py"]),
    ],
)
def test_what_the_program_cannot_take_is_refused(override, words):
    text = SPACE.replace("baseline: {micro_batch_size: 1, compile: false}\n", "")
    space = parse_space(text, overrides=(override,))
    with pytest.raises(BadInput) as caught:
        TORCH.rules(space)
    for word in words:
        assert word in str(caught.value)


def test_a_parameter_that_no_flag_stands_for_is_refused():
    text = SPACE.replace("parameters:\n", "parameters:\n  micro_batch: {values: [1]}\n")
    with pytest.raises(BadInput) as caught:
        TORCH.rules(parse_space(text))
    assert "Did you mean 'micro_batch_size'" in str(caught.value)


def test_a_simulated_cluster_is_refused(tmp_path):
    space = parse_space(SPACE)
    with pytest.raises(BadInput):
        TORCH.render(space, baseline(space), context(tmp_path, simulated=True))


def test_a_program_of_ones_own_says_its_flags_itself(tmp_path, monkeypatch):
    folder = tmp_path / "runners" / "mine"
    folder.mkdir(parents=True)
    (folder / "train.py").write_text("print('hello')\n")
    flags = {"width": {"type": "int", "default": 1}, "steps": {"type": "int", "default": 3}}
    rules = [{"expression": "width != 2", "reason": "two is odd here"}]
    (folder / "flags.json").write_text(
        json.dumps({"flags": {**flags, "seed": {"type": "int", "default": 0}}, "rules": rules})
    )
    monkeypatch.chdir(tmp_path)
    space = parse_space(
        "name: mine\nframework: torch\nrunner: mine\n"
        "parameters: {width: {values: [1, 2, 3]}}\nbaseline: {width: 1}\n"
    )
    legal = build_legal_set(space, TORCH.rules(space))
    assert [legal.config(index)["width"] for index in range(len(legal))] == [1, 3]
    job = TORCH.render(space, legal.config(1), context(tmp_path))
    assert job.argv[2:] == ("--width", "3", "--steps", "3", "--seed", "5")


def test_the_ladders_rungs_are_all_on_offer():
    offered = set(load_space("gpt_torch").parameters) | set(load_space("gpt_torch_ddp").parameters)
    flags = json.loads((RUNNERS / "torch_trainer" / "flags.json").read_text())["flags"]
    assert offered <= set(flags)


@pytest.mark.parametrize(
    ("gpu", "heads", "losses"),
    [
        ("a100_80gb", {"same"}, {"full", "chunked", "fused"}),
        ("h100_80gb", {"same", "fp8"}, {"full", "chunked", "fused"}),
        ("mi300x", {"same"}, {"full", "chunked", "fused"}),
        ("cpu_host", set(), {"full", "chunked"}),
    ],
)
def test_what_the_gpu_cannot_do_is_illegal(gpu, heads, losses):
    space = load_space("gpt_torch", (f"cluster.gpu={gpu}",))
    legal = build_legal_set(space, TORCH.rules(space))
    assert set(legal.column("lm_head_precision").tolist()) - {""} == heads
    assert set(legal.column("cross_entropy").tolist()) == losses
    assert ("cudnn" in legal.column("attention_backend")) == (gpu[:2] in ("a1", "h1"))


def test_a_parameter_may_live_in_the_environment(tmp_path):
    text = SPACE.replace("parameters:\n", "parameters:\n  algo: {values: [Ring, Tree]}\n")
    space = parse_space(
        text.replace("env: {", 'env: {NCCL_ALGO: "{algo}", ').replace(
            "baseline: {", "baseline: {algo: Tree, "
        )
    )
    job = TORCH.render(space, baseline(space), context(tmp_path))
    assert (job.env["NCCL_ALGO"], "--algo" in job.argv) == ("Tree", False)
    assert TORCH.read_back(space, job)["algo"] == "Tree"
