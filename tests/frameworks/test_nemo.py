"""NeMo: rendering against the real YAML's keys, both versions, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from autotune.config import Config
from autotune.errors import BadInput
from autotune.frameworks import RenderContext, get_framework
from autotune.frameworks._nemo_config import flattened
from autotune.space import SearchSpace, build_legal_set, load_space, parse_space

NEMO = get_framework("nemo")
CONTEXT = RenderContext(Path("/trial"))
EXPORT = RenderContext(Path("/out"), purpose="export")
KNOWN_KEYS = {
    line
    for line in (Path(__file__).parent / "data/nemo_squad_keys.txt").read_text().splitlines()
    if not line.startswith("#")
}
VERSION_2 = ["options.nemo_version=2", "options.restore_from_path=/models/llama2"]


def _baseline(*overrides: str) -> tuple[SearchSpace, Config]:
    space = load_space("llama7b_lora_nemo", overrides)
    legal = build_legal_set(space, NEMO.rules(space))
    place = legal.find(space.baseline)
    assert place is not None
    return space, legal.config(place)


def _flat(text: str) -> dict[str, Any]:
    tree = yaml.safe_load(text)
    tree.pop("defaults")
    return dict(flattened(tree))


def test_published_baseline_stands_on_nemos_own_keys() -> None:
    space, config = _baseline()
    flat = _flat(NEMO.render(space, config, CONTEXT).files["conf/autotune.yaml"])
    assert set(flat) - {"trainer.limit_val_batches"} <= KNOWN_KEYS
    expected = {
        "trainer.devices": 4,
        "trainer.precision": 16,
        "model.tensor_model_parallel_size": 4,
        "model.pipeline_model_parallel_size": 1,
        "model.micro_batch_size": 1,
        "model.global_batch_size": 128,
        "model.sequence_parallel": False,
        "model.activations_checkpoint_granularity": None,
        "model.data.train_ds.max_seq_length": 4096,
        "model.peft.lora_tuning.adapter_dim": 32,
    }
    assert {key: flat[key] for key in expected} == expected


def test_every_legal_config_reads_back_from_a_recipe_too() -> None:
    space = load_space("llama7b_lora_nemo", VERSION_2)
    legal = build_legal_set(space, NEMO.rules(space))
    for index in range(len(legal)):
        config = legal.config(index)
        said = NEMO.read_back(space, NEMO.render(space, config, CONTEXT))
        active = {name: value for name, value in config.values.items() if value is not None}
        assert {name: said[name] for name in active} == active


def test_a_trial_resumes_and_saves_nothing_and_an_export_does() -> None:
    space, config = _baseline("options.results_dir=/results")
    trial = _flat(NEMO.render(space, config, CONTEXT).files["conf/autotune.yaml"])
    assert trial["exp_manager.resume_if_exists"] is False
    assert trial["exp_manager.create_checkpoint_callback"] is False
    assert trial["exp_manager.explicit_log_dir"] == "/trial/nemo"
    export = NEMO.render(space, config, EXPORT).files
    launcher = _flat(export["conf/peft/llama/autotune.yaml"])
    assert set(launcher) <= KNOWN_KEYS
    assert "exp_manager.resume_if_exists" not in launcher
    assert launcher["exp_manager.explicit_log_dir"] == "/results"
    assert "#SBATCH --ntasks-per-node=4" in export["nemo.sbatch"]
    assert "peft=llama/autotune" in export["nemo_launcher.sh"]


def test_scripts_quote_what_users_write() -> None:
    nasty = "/data/$(touch pwned); it's"
    space, config = _baseline(f"options.nemo_dir={json.dumps(nasty)}")
    files = NEMO.render(space, config, EXPORT).files
    for name in ("nemo.sbatch", "nemo_launcher.sh"):
        assert subprocess.run(["bash", "-n"], input=files[name], text=True).returncode == 0
        if shutil.which("shellcheck"):
            checked = subprocess.run(
                ["shellcheck", "-S", "warning", "-s", "bash", "-"],
                input=files[name],
                capture_output=True,
                text=True,
            )
            assert checked.returncode == 0, checked.stdout
    assert "'/data/$(touch pwned); it'\"'\"'s/examples" in files["nemo.sbatch"]


def test_version_2_is_a_bridge_recipe() -> None:
    space, config = _baseline(*VERSION_2)
    job = NEMO.render(space, config, CONTEXT)
    recipe = json.loads(job.files["bridge_recipe.json"])
    assert recipe["settings"]["model.tensor_model_parallel_size"] == 4
    assert recipe["settings"]["mixed_precision"] == "fp16_mixed"
    assert recipe["settings"]["checkpoint.save"] is None
    assert job.argv[1].endswith("nemo_lora/bridge_recipe.py")
    assert NEMO.log_format(space).name == "megatron"
    assert not [field for field in recipe["settings"] if field.startswith("profiling.")]


@pytest.mark.parametrize("tool", ["torch", "nsys"])
def test_each_version_is_told_its_own_profilers(tool: str) -> None:
    asked = replace(CONTEXT, profiler=tool)
    space, config = _baseline(*VERSION_2)
    recipe = json.loads(NEMO.render(space, config, asked).files["bridge_recipe.json"])["settings"]
    assert recipe["profiling.use_nsys_profiler"] == (tool == "nsys")
    assert recipe["profiling.use_pytorch_profiler"] == (tool == "torch")
    assert recipe["logger.tensorboard_dir"].startswith(str(CONTEXT.trial_dir))
    space, config = _baseline()
    told = yaml.safe_load(NEMO.render(space, config, asked).files["conf/autotune.yaml"])
    assert (told["trainer"].get("profiler") == "pytorch") == (tool == "torch")
    assert ("nsys_profile" in told["model"]) == (tool == "nsys")


@pytest.mark.parametrize(
    ("parameter", "overrides", "message"),
    [
        ("lora_rank: {values: [8, 16]}", [], "decides what is learned"),
        ("zero_stage: {values: [1]}", [], "unknown parameter 'zero_stage'"),
        ("megatron_amp_O2: {values: [true]}", VERSION_2, "unknown parameter 'megatron_amp_O2'"),
        ("", ["contract.precision=fp8"], "value of precision 'fp8'"),
        ("", [*VERSION_2, "contract.precision=fp32"], "value of precision 'fp32'"),
        ("", ["options.restore_from_path=null"], "needs the base model"),
        ("", ["options.nemo_version=3"], "1 or 2"),
    ],
)
def test_what_cannot_be_expressed_is_an_error(
    parameter: str, overrides: list[str], message: str
) -> None:
    source = load_space("llama7b_lora_nemo").source
    assert source is not None
    text = source.read_text().replace("parameters:\n", f"parameters:\n  {parameter}\n")
    name = parameter.partition(":")[0]
    if name:
        value = {"lora_rank": "8", "zero_stage": "1"}.get(name, "true")
        text = text.replace("baseline:\n", f"baseline:\n  {name}: {value}\n")
    space = parse_space(text, overrides=overrides)
    with pytest.raises(BadInput, match=message):
        NEMO.rules(space)
