"""Megatron-LM: every value becomes a flag and comes back; what it refuses is never offered."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from autotune.config import Config
from autotune.errors import BadInput
from autotune.frameworks import RenderContext, get_framework
from autotune.frameworks._megatron_arguments import OPTIONS
from autotune.frameworks._megatron_flags import (
    BY_NAME,
    FLAGS,
    KNOWN,
    read_parameters,
    render_parameters,
)
from autotune.space import LegalSet, SearchSpace, build_legal_set, load_space, parse_space

HERE = Path(__file__).parent
MEGATRON = get_framework("megatron")
WIDE = ("megatron_layout", "megatron_switches", "megatron_experts")
SMALL = """
name: small
framework: megatron
cwd: /jobs
model: tiny-gpt
cluster: {{nodes: 1, gpus_per_node: 2, gpu: h100_80gb}}
contract: {{global_batch_size: 8, seq_length: 128, precision: {precision}}}
parameters:
  micro_batch_size: {{values: [1, 2]}}
  {parameters}
env: {env}
options: {options}
"""


def small(parameters: str = "", options: str = "{}", env: str = "{}", precision: str = "bf16"):
    """A small space; the parts are YAML."""
    return parse_space(
        SMALL.format(parameters=parameters, options=options, env=env, precision=precision)
    )


def legal_set(space: SearchSpace) -> LegalSet:
    return build_legal_set(space, MEGATRON.rules(space))


def trial(tmp_path: Path, **fields) -> RenderContext:
    return RenderContext(trial_dir=tmp_path, simulated=True, **fields)


def sampled(legal: LegalSet, count: int = 150) -> list[Config]:
    picks = np.random.default_rng(0).choice(len(legal), min(count, len(legal)), replace=False)
    return [legal.config(int(index)) for index in picks]


@pytest.mark.parametrize("name", WIDE)
def test_every_parameter_that_megatron_has_is_read_back(name, tmp_path):
    space = load_space(HERE / f"{name}.yaml")
    legal = legal_set(space)
    for config in sampled(legal):
        back = MEGATRON.read_back(space, MEGATRON.render(space, config, trial(tmp_path)))
        active = {key: value for key, value in config.values.items() if value is not None}
        assert {key: back[key] for key in active} == active


def test_the_wide_spaces_leave_no_parameter_out():
    searched = {name for space in WIDE for name in load_space(HERE / f"{space}.yaml").parameters}
    shipped = {
        "empty_unused_memory_level",
        "global_batch_size",
        "virtual_pipeline_model_parallel_size",
    }
    assert set(BY_NAME) - searched - shipped == set()


def test_defaults_of_absent_flags_are_said_by_no_flag():
    defaults = {flag.name: flag.default for flag in FLAGS if flag.default is not None}
    back = read_parameters(render_parameters(defaults))
    assert {name: back[name] for name in defaults} == defaults


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("zero_stage", 2),
        ("zero_stage", True),
        ("tensor_model_parallel_size", 1.5),
        ("micro_batch_size", -1),
        ("empty_unused_memory_level", 3),
        ("sequence_parallel", "yes"),
        ("recompute_granularity", "sometimes"),
        ("attention_backend", "paged"),
        ("precision", "tf32"),
        ("optimizer", "lion"),
        ("made_up", 1),
    ],
)
def test_what_megatron_cannot_say_is_an_error(name, value):
    with pytest.raises(BadInput, match=name.split("_")[0]):
        render_parameters({name: value})


def test_the_distributed_optimizer_has_one_name_at_a_time():
    with pytest.raises(BadInput, match="zero_stage"):
        render_parameters({"zero_stage": 1, "use_distributed_optimizer": True})


BROKEN = [
    ({"tensor_model_parallel_size": 8}, "attention heads"),
    ({"tensor_model_parallel_size": 4}, "key/value heads"),
    ({"pipeline_model_parallel_size": 8}, "same number of layers"),
    ({"virtual_pipeline_model_parallel_size": 2}, "more than one pipeline stage"),
    ({"pipeline_model_parallel_size": 4, "virtual_pipeline_model_parallel_size": 2}, "virtual"),
    ({"sequence_parallel": True}, "sequence parallelism"),
    ({"recompute_num_layers": 5, "pipeline_model_parallel_size": 3}, "layers are recomputed"),
    ({"recompute_num_layers": 5}, "equal units"),
    ({"context_parallel_size": 4, "cp_comm_type": "a2a"}, "all-to-all"),
]


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_each_refusal_names_its_reason(change, reason):
    space = load_space(HERE / "megatron_layout.yaml")
    legal = legal_set(space)
    good = {
        "tensor_model_parallel_size": 1, "pipeline_model_parallel_size": 1,
        "virtual_pipeline_model_parallel_size": 1, "overlap_p2p_communication": True,
        "context_parallel_size": 1, "cp_comm_type": "p2p", "sequence_parallel": False,
        "micro_batch_size": 1, "recompute_granularity": "full", "recompute_method": "uniform",
        "recompute_num_layers": 1,
    }  # fmt: skip
    assert legal.why_illegal(good) is None
    told = legal.why_illegal({**good, **change})
    assert told is not None and reason in told and "megatron" in told


def test_the_shipped_space_is_rich_and_holds_the_published_baseline(tmp_path):
    space = load_space("llama70b_tp_pp")
    legal = legal_set(space)
    assert len(legal) > 20_000
    config = legal.config(legal.baseline)
    argv = MEGATRON.render(space, config, trial(tmp_path)).argv
    said = " ".join(argv)
    for words in (
        "--tensor-model-parallel-size 8", "--pipeline-model-parallel-size 2",
        "--recompute-granularity full", "--recompute-method block", "--recompute-num-layers 9",
        "--num-layers 80", "--hidden-size 8192", "--ffn-hidden-size 28672",
        "--num-attention-heads 64", "--num-query-groups 8", "--vocab-size 128256",
        "--seq-length 8192", "--global-batch-size 128", "--bf16",
    ):  # fmt: skip
        assert words in said


def test_trials_touch_no_checkpoint_and_train_mock_tokens(tmp_path):
    options = (
        "{megatron_lm_dir: /opt/m, load: /ckpt/in, save: /ckpt/out, save_interval: 100, "
        "data_path: [0.3, /data/a, 0.7, b], tokenizer_type: HuggingFaceTokenizer, "
        "tokenizer_model: org/name, train_iters: 5000, lr: 3.0e-4, lr_warmup_iters: 10}"
    )
    space = small(options=options)
    config = legal_set(space).config(0)
    argv = MEGATRON.render(space, config, trial(tmp_path)).argv
    assert "--mock-data" in argv and "NullTokenizer" in argv and "constant" in argv
    assert not {"--load", "--save", "--data-path", "--tokenizer-model"} & set(argv)
    export = MEGATRON.render(space, config, RenderContext(trial_dir=tmp_path, purpose="export"))
    said = " ".join(export.argv)
    for words in (
        "/opt/m/pretrain_gpt.py", "--load /ckpt/in", "--save /ckpt/out", "--save-interval 100",
        "--data-path 0.3 /data/a 0.7 /jobs/b", "--tokenizer-model org/name",
        "--train-iters 5000", "--lr-warmup-iters 10", "--lr-decay-style cosine",
    ):  # fmt: skip
        assert words in said
    assert "--mock-data" not in export.argv and export.per == "rank"
    assert export.env["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"


def test_real_data_in_trials_only_when_asked_for_and_complete(tmp_path):
    config = Config({"micro_batch_size": 1})
    (tmp_path / "pretrain_gpt.py").write_text("")
    real = RenderContext(trial_dir=tmp_path)
    wanted = f"megatron_lm_dir: {tmp_path}, mock_data: false"
    with pytest.raises(BadInput, match="data_path"):
        MEGATRON.render(small(options=f"{{{wanted}}}"), config, real)
    complete = f"{{{wanted}, data_path: /d, tokenizer_type: GPT2BPETokenizer}}"
    assert "--data-path" in MEGATRON.render(small(options=complete), config, real).argv
    assert (
        "--data-path" not in MEGATRON.render(small(options=complete), config, trial(tmp_path)).argv
    )


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("{megatron_dir: /x}", "megatron_lm_dir"),
        ("{extra_args: ['--sequence-parallel']}", "sequence_parallel"),
        ("{extra_args: ['--load']}", "--load"),
        ("{extra_args: '--use-mup'}", "list"),
    ],
)
def test_options_that_clash_or_are_unknown_are_errors(options, wanted):
    with pytest.raises(BadInput, match=wanted):
        MEGATRON.rules(small(options=options))


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ("zero_stage: {values: [1, 2]}", "zero_stage"),
        ("recompute_granularity: {values: [none, some]}", "recompute_granularity"),
        ("gradient_accumulation_steps: {values: [1, 2]}", "gradient_accumulation_steps"),
    ],
)
def test_a_choice_without_words_is_refused_before_anything_starts(parameters, wanted):
    with pytest.raises(BadInput, match=wanted):
        MEGATRON.rules(small(parameters))


@pytest.mark.parametrize("change", ["precision=tf32", "optimizer=lion", "seq_length=null"])
def test_a_contract_without_words_is_refused_before_anything_starts(change):
    with pytest.raises(BadInput, match=change.split("=")[0]):
        MEGATRON.rules(load_space("llama70b_tp_pp", (f"contract.{change}",)))


def test_without_a_checkout_the_error_says_what_to_do(tmp_path):
    space = small()
    config = legal_set(space).config(0)
    with pytest.raises(BadInput, match="megatron_lm_dir"):
        MEGATRON.render(space, config, RenderContext(trial_dir=tmp_path))
    missing = small(options=f"{{megatron_lm_dir: {tmp_path}}}")
    with pytest.raises(BadInput, match="no such file"):
        MEGATRON.render(missing, config, RenderContext(trial_dir=tmp_path))
    (tmp_path / "pretrain_gpt.py").write_text("")
    job = MEGATRON.render(missing, config, RenderContext(trial_dir=tmp_path))
    assert job.argv[1] == str(tmp_path / "pretrain_gpt.py") and job.world_size == 2
    export = MEGATRON.render(space, config, RenderContext(trial_dir=tmp_path, purpose="export"))
    assert export.argv[1] == str(tmp_path / "Megatron-LM" / "pretrain_gpt.py")


def test_a_parameter_may_live_in_the_environment(tmp_path):
    space = small("nccl_algo: {values: [Ring, Tree]}", env="{NCCL_ALGO: '{nccl_algo}'}")
    config = Config({"micro_batch_size": 2, "nccl_algo": "Tree"})
    job = MEGATRON.render(space, config, trial(tmp_path))
    assert job.env["NCCL_ALGO"] == "Tree"
    assert MEGATRON.read_back(space, job)["nccl_algo"] == "Tree"


def test_fp8_is_said_and_read(tmp_path):
    space = small(precision="fp8")
    argv = MEGATRON.render(space, Config({"micro_batch_size": 1}), trial(tmp_path)).argv
    assert "--fp8-format" in argv and "--bf16" in argv
    assert read_parameters(argv)["precision"] == "fp8"


def test_sgd_is_never_sharded():
    space = load_space(HERE / "megatron_switches.yaml")
    legal = legal_set(space)
    sgd = legal.column("optimizer") == "sgd"
    assert sgd.any() and not (legal.column("zero_stage")[sgd] > 0).any()


def test_profilers_are_asked_for_by_their_own_flags(tmp_path):
    space, config = load_space("tiny_megatron_core"), Config({"micro_batch_size": 1})
    torch_job = MEGATRON.render(space, config, RenderContext(tmp_path, profiler="torch"))
    assert "--use-pytorch-profiler" in torch_job.argv
    nsys = MEGATRON.render(space, config, RenderContext(tmp_path, profiler="nsys"))
    assert nsys.argv[:2] == ("nsys", "profile") and "--profile" in nsys.argv
    assert MEGATRON.read_back(space, nsys)["micro_batch_size"] == 1


def test_checkpoints_are_resharded_or_converted():
    config = Config({"tensor_model_parallel_size": 2, "pipeline_model_parallel_size": 1})
    assert MEGATRON.checkpoint_note(small(), config) is None
    note = MEGATRON.checkpoint_note(small(options="{load: /c}"), config)
    assert "TP 2" in note and "resharded" in note
    old = MEGATRON.checkpoint_note(small(options="{load: /c, ckpt_format: torch}"), config)
    assert "--target-tensor-parallel-size 2" in old


def test_a_dry_run_can_name_the_source_of_every_flag(tmp_path):
    space = small(options="{lr: 1.0e-3, extra_args: ['--use-mup']}")
    job = MEGATRON.render(space, Config({"micro_batch_size": 1}), trial(tmp_path))
    given = {item for item in job.argv if item.startswith("--")}
    assert given <= set(job.sources)
    assert job.sources["--micro-batch-size"] == "parameter micro_batch_size"
    assert job.sources["--lr"] == "options.lr"
    assert job.sources["--use-mup"] == "options.extra_args"
    assert job.sources["--hidden-size"].startswith("model")
    assert dataclasses.replace(job).time_compression == 1.0


def test_the_page_tells_every_parameter_and_every_option():
    page = (HERE.parents[1] / "docs" / "megatron.md").read_text()
    for name in (*KNOWN, *OPTIONS):
        assert f"`{name}`" in page, name
    for flag in FLAGS:
        assert f"`{flag.flag}`" in page
