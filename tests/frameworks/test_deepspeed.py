"""DeepSpeed: what is rendered, what is refused, and that DeepSpeed itself takes the config."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autotune.config import Config
from autotune.errors import BadInput
from autotune.frameworks import RenderContext, get_framework
from autotune.space import LegalSet, SearchSpace, build_legal_set, load_space, parse_space

DEEPSPEED = get_framework("deepspeed")
CONTEXT = RenderContext(Path("/trial"), python=sys.executable)


def _space(*overrides: str) -> tuple[SearchSpace, LegalSet]:
    space = load_space("llama1b_deepspeed", overrides)
    return space, build_legal_set(space, DEEPSPEED.rules(space))


def _baseline(*overrides: str) -> tuple[SearchSpace, Config]:
    space, legal = _space(*overrides)
    place = legal.find(space.baseline)
    assert place is not None, legal.why_illegal(space.baseline)
    return space, legal.config(place)


def _ds_config(space: SearchSpace, config: Config) -> dict[str, Any]:
    text = DEEPSPEED.render(space, config, CONTEXT).files["ds_config.json"]
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def test_published_baseline_is_said_in_full() -> None:
    space, config = _baseline()
    rendered = _ds_config(space, config)
    assert rendered["zero_optimization"]["stage"] == 1
    assert rendered["tensor_parallel"] == {"autotp_size": 4}
    assert rendered["train_micro_batch_size_per_gpu"] == 8
    assert rendered["gradient_accumulation_steps"] == 4
    assert rendered["bf16"]["enabled"] and not rendered["fp16"]["enabled"]
    assert rendered["log_level"] == "info"
    job = DEEPSPEED.render(space, config, CONTEXT)
    assert (job.per, job.world_size, job.total_steps) == ("rank", 4, 20)
    assert job.argv[1].endswith("runners/deepspeed_sft/train.py")


def test_every_legal_config_keeps_the_global_batch_and_reads_back() -> None:
    space, legal = _space()
    for index in range(0, len(legal), 37):
        config = legal.config(index)
        job = DEEPSPEED.render(space, config, CONTEXT)
        said = DEEPSPEED.read_back(space, job)
        active = {name: value for name, value in config.values.items() if value is not None}
        assert {name: said[name] for name in active} == active
        assert said["global_batch_size"] == 32


def test_autotp_and_offload_obey_the_zero_stage() -> None:
    _, legal = _space()
    columns = legal.columns()
    zero, tensor = columns["zero_stage"], columns["tensor_model_parallel_size"]
    assert set(zero.tolist()) == {0, 1, 2, 3}
    assert set(tensor[zero == 3].tolist()) == {1}
    assert set(tensor[zero == 2].tolist()) == {1, 2, 4}
    for index in range(0, len(legal), 11):
        config = legal.config(index)
        assert not config.get("offload_optimizer") or config["zero_stage"] in (1, 2, 3)
        assert not config.get("offload_param") or config["zero_stage"] == 3


TINY = """
name: tiny
model: tiny-llama
cluster: {{nodes: 1, gpus_per_node: 2}}
framework: deepspeed
contract: {{global_batch_size: 8, seq_length: 64, precision: {precision}, optimizer: {optimizer}}}
parameters: {parameters}
options: {options}
"""


def _render(
    parameters: str = "{micro_batch_size: {values: [1]}}",
    options: str = "{}",
    precision: str = "fp32",
    optimizer: str = "adamw",
    context: RenderContext = CONTEXT,
) -> Any:
    text = TINY.format(
        parameters=parameters, options=options, precision=precision, optimizer=optimizer
    )
    space = parse_space(text)
    legal = build_legal_set(space, DEEPSPEED.rules(space))
    return DEEPSPEED.render(space, legal.config(0), context)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"parameters": "{micro_batch_size: {values: [1]}, zero_stge: {values: [1]}}"},
            "zero_stage",
        ),
        ({"options": "{learning_rat: 1}"}, "learning_rate"),
        ({"parameters": "{zero_stage: {values: [1]}}"}, "micro_batch_size is missing"),
        ({"precision": "fp8"}, "precision 'fp8'"),
        ({"optimizer": "lion"}, "optimizer 'lion'"),
        (
            {"parameters": "{micro_batch_size: {values: [1]}, zero_stage: {values: [4]}}"},
            "Known: 0, 1, 2, 3",
        ),
        (
            {"parameters": "{micro_batch_size: {values: [1]}, reduce_bucket_size: {values: [a]}}"},
            "type int is wanted",
        ),
        (
            {"parameters": "{micro_batch_size: {values: [1]}, padding: {values: [shortest]}}"},
            "shortest",
        ),
        ({"options": "{ds_config: {zero_optimization: {}}}"}, "zero_optimization is set"),
        (
            {"parameters": "{micro_batch_size: {values: [1]}, offload_param: {values: [true]}}"},
            "parameter offload needs ZeRO-3",
        ),
        ({"context": RenderContext(Path("/trial"), simulated=True)}, "no simulated cluster"),
    ],
)
def test_what_cannot_be_expressed_is_an_error(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _render(**given)


def test_autotp_is_never_ranked_by_deepspeeds_own_rate() -> None:
    space = load_space("llama1b_deepspeed", ["metric={format: deepspeed}"])
    with pytest.raises(BadInput, match="too high by the AutoTP size"):
        DEEPSPEED.rules(space)


def test_trials_touch_no_checkpoint_and_the_export_restores_them() -> None:
    options = "{load: /ckpt/in, save: /ckpt/out, train_steps: 900}"
    trial = _render(options=options)
    assert "/ckpt" not in " ".join(trial.argv)
    export = _render(options=options, context=RenderContext(Path("/trial"), purpose="export"))
    assert export.argv[export.argv.index("--load") + 1] == "/ckpt/in"
    assert export.argv[export.argv.index("--save") + 1] == "/ckpt/out"
    assert export.argv[export.argv.index("--steps") + 1] == "900"


def test_the_export_says_what_a_checkpoint_needs() -> None:
    space, config = _baseline("options.load=/ckpt/in")
    note = DEEPSPEED.checkpoint_note(space, config)
    assert "ZeRO-1, AutoTP 4 and 4 ranks" in note and "ds_to_universal" in note
    space, config = _baseline()
    assert DEEPSPEED.checkpoint_note(space, config) is None


def test_the_profiler_is_asked_of_the_runner_or_of_nsys() -> None:
    torch = _render(context=RenderContext(Path("/trial"), profiler="torch"))
    assert torch.argv[torch.argv.index("--profile") + 1] == "torch"
    nsys = _render(context=RenderContext(Path("/trial"), profiler="nsys"))
    assert nsys.argv[:2] == ("nsys", "profile")
    assert "--capture-range=cudaProfilerApi" in nsys.argv


CHECK = """
import json, sys
from deepspeed.runtime.config import DeepSpeedConfig
for line in sys.stdin:
    given = json.loads(line)
    checked = DeepSpeedConfig(given)
    print(json.dumps([checked.zero_config.stage, checked.tensor_parallel_config.autotp_size]))
"""


@pytest.mark.slow
def test_deepspeed_itself_takes_the_configs_of_every_stage() -> None:
    pytest.importorskip("deepspeed")
    space, legal = _space("cluster.gpus_per_node=1", "baseline.tensor_model_parallel_size=1")
    picked = [_ds_config(space, legal.config(index)) for index in range(0, len(legal), 397)]
    space4, legal4 = _space()
    tensor_parallel = legal4.columns()["tensor_model_parallel_size"] > 1
    rows = tensor_parallel.nonzero()[0]
    picked += [_ds_config(space4, legal4.config(int(row))) for row in rows[::1499]]
    answer = subprocess.run(
        [sys.executable, "-c", CHECK],
        input="".join(json.dumps(one) + "\n" for one in picked),
        capture_output=True,
        text=True,
        env={"DS_ACCELERATOR": "cpu", "PATH": "/usr/bin:/bin", "HOME": "/tmp"},
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    checked = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("[")]
    wanted = [
        [
            one["zero_optimization"]["stage"],
            one.get("tensor_parallel", {}).get("autotp_size", 0),
        ]
        for one in picked
    ]
    assert checked == wanted
    assert {stage for stage, _ in wanted} == {0, 1, 2, 3}
