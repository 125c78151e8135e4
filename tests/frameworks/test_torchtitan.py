"""torchtitan: the TOML, its keys, its batches, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autotune.config import Config
from autotune.errors import BadInput
from autotune.frameworks import RenderContext, get_framework
from autotune.frameworks._toml import read_toml, write_toml
from autotune.space import LegalSet, SearchSpace, build_legal_set, load_space

TITAN = get_framework("torchtitan")
CONTEXT = RenderContext(Path("/trial"))
KNOWN_KEYS = {
    line
    for line in (Path(__file__).parent / "data/torchtitan_keys.txt").read_text().splitlines()
    if not line.startswith("#")
}


def _space(*overrides: str) -> tuple[SearchSpace, LegalSet]:
    space = load_space("llama8b_torchtitan", overrides)
    return space, build_legal_set(space, TITAN.rules(space))


def _toml(space: SearchSpace, config: Config, context: RenderContext = CONTEXT) -> dict[str, Any]:
    return read_toml(TITAN.render(space, config, context).files["torchtitan.toml"])


def test_every_legal_config_reads_back_uses_known_keys_and_keeps_the_batch() -> None:
    space, legal = _space()
    for index in range(0, len(legal), 5):
        config = legal.config(index)
        said = TITAN.read_back(space, TITAN.render(space, config, CONTEXT))
        active = {name: value for name, value in config.values.items() if value is not None}
        assert {name: said[name] for name in active} == active
        tables = _toml(space, config)
        assert {f"{table}.{key}" for table, keys in tables.items() for key in keys} <= KNOWN_KEYS
        layout, training = tables["parallelism"], tables["training"]
        replicas = layout["data_parallel_shard_degree"] * layout["data_parallel_replicate_degree"]
        split = 1
        for size in ("tensor", "pipeline", "context"):
            split *= layout[f"{size}_parallel_degree"]
        assert replicas * split == 8
        assert training["global_batch_size"] % (training["local_batch_size"] * replicas) == 0
        if layout["pipeline_parallel_degree"] > 1:
            assert training["local_batch_size"] * replicas == training["global_batch_size"]


def test_the_seed_stands_where_the_version_looks_for_it() -> None:
    for version, table in (("0.2.0", "training"), ("0.2.1", "debug")):
        space, legal = _space(f"options.torchtitan_version={version}")
        tables = _toml(space, legal.config(0))
        assert [name for name, keys in tables.items() if "seed" in keys] == [table]
    with pytest.raises(BadInput, match=r"torchtitan_version.*0\.1\.0.*0\.2\.2"):
        _space("options.torchtitan_version=0.1.0")


def test_a_python_toml_reader_agrees_with_ours() -> None:
    tomllib = pytest.importorskip("tomllib")
    space, legal = _space("contract.precision=fp8")
    text = TITAN.render(space, legal.config(0), CONTEXT).files["torchtitan.toml"]
    real = tomllib.loads(text)
    ours = read_toml(text)
    assert real["quantize"]["linear"]["float8"] == ours.pop("quantize.linear.float8")
    real.pop("quantize")
    assert real == ours
    nasty = {"a": {"text": 'q"uo\\te\n\u00e9', "list": ["x", "y"], "no": False, "n": 1.5}}
    assert tomllib.loads(write_toml(nasty)) == nasty == read_toml(write_toml(nasty))


def test_trials_write_no_checkpoint_and_exports_may() -> None:
    space, legal = _space("options.save=/ckpt/out", "options.load=/ckpt/in")
    assert _toml(space, legal.config(0))["checkpoint"] == {"enable": False}
    export = RenderContext(Path("/out"), purpose="export")
    assert _toml(space, legal.config(0), export)["checkpoint"] == {
        "enable": True,
        "folder": "/ckpt/out",
        "initial_load_path": "/ckpt/in",
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=llama-3.2-1b"], "torchtitan has no model 'llama-3.2-1b'"),
        (["contract.precision=fp16"], "value of precision 'fp16'"),
        (["contract.optimizer=sgd"], "value of optimizer 'sgd'"),
        (["options.flavour=8B"], "unknown torchtitan option 'flavour'"),
    ],
)
def test_what_cannot_be_expressed_is_an_error(overrides: list[str], message: str) -> None:
    space = load_space("llama8b_torchtitan", overrides)
    with pytest.raises(BadInput, match=message):
        TITAN.rules(space)
