"""What every framework and every shipped space has to hold; newcomers are picked up unedited.

A value that is dropped or changed between config and job would be measured and mean nothing:
every legal config of each shipped space is rendered and read back from arguments, environment and
files alone. Of sets too large for that it is a share drawn by hash, and one config for each legal
pair of values of any two parameters; AUTOTUNE_TEST_CORNERS=1000000 reads back every one of them.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from autotune import content
from autotune.config import Config
from autotune.errors import BadInput
from autotune.frameworks import Framework, RenderContext, framework_names, get_framework
from autotune.space import (
    Expression,
    LegalSet,
    SearchSpace,
    build_legal_set,
    list_spaces,
    load_space,
)
from autotune.space.column import Array

MOST = int(os.environ.get("AUTOTUNE_TEST_CORNERS", "12000"))
SHARE = 6
"""Of a larger set, this part of MOST is drawn."""
SPACES = sorted(list_spaces())
VARIANTS = [(name, small) for name in SPACES for small in (False, True)]


def load(name: str, small: bool) -> SearchSpace:
    space = load_space(name)
    overrides = space.options.get("without_gpu")
    if not small:
        return space
    if not overrides:
        pytest.skip("the space has no smaller job for machines without a GPU")
    return load_space(name, tuple(overrides))


def corners(legal: LegalSet) -> Array:
    """Indices of all legal configs, or of what stands for them."""
    everything = np.arange(len(legal))
    if len(legal) <= MOST:
        return everything
    return np.union1d(pairs(legal), np.flatnonzero(scattered(legal) % len(legal) < MOST // SHARE))


def pairs(legal: LegalSet) -> list[int]:
    """Configs that hold every legal pair of values of any two parameters, absence included."""
    chosen = {0, len(legal) - 1}
    for first, second in combinations(range(legal.codes.shape[1]), 2):
        both = legal.codes[:, first].astype(np.int64) * 1000 + legal.codes[:, second]
        found, rows = np.unique(both, return_index=True)
        chosen |= set(rows[~np.isin(found, both[sorted(chosen)])].tolist())
    return sorted(chosen)


def scattered(legal: LegalSet) -> Array:
    """A number for each config that its values decide, and no pattern of theirs."""
    number = np.zeros(len(legal), dtype=np.uint64)
    for codes in legal.codes.T:
        number = (number ^ (codes + 2).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        number ^= number >> np.uint64(29)
    return number


def configs(legal: LegalSet, rows: Array) -> Iterator[Config]:
    """The configs at these indices, as ``legal.config`` gives them one by one."""
    derived = {name: legal.column(name)[rows].tolist() for name in legal.space.names.derived}
    tables = [(name, (*legal.choices[name], None)) for name in legal.names]
    for place, codes in enumerate(legal.codes[rows].tolist()):
        values = {name: told[code] for (name, told), code in zip(tables, codes, strict=True)}
        yield Config(values, {name: int(column[place]) for name, column in derived.items()})


def find_programs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for the training program is most of what rendering costs."""
    for name, module in list(sys.modules.items()):
        if name.startswith("autotune.frameworks") and hasattr(module, "find_content"):
            monkeypatch.setattr(module, "find_content", functools.cache(content.find_content))


def context(framework: Framework, trial_dir: Path) -> RenderContext:
    """A trial here: simulated where the framework can, since that needs no program of theirs."""
    return RenderContext(trial_dir=trial_dir, simulated=getattr(framework, "simulates", False))


@pytest.mark.parametrize("name", framework_names())
def test_a_framework_is_found_by_its_name_and_has_every_member(name):
    framework = get_framework(name)
    assert framework.name == name
    assert isinstance(framework, Framework)


def test_an_unknown_framework_lists_the_known_ones():
    with pytest.raises(BadInput) as caught:
        get_framework("megatorn")
    assert "megatron" in str(caught.value)
    assert "command" in str(caught.value)


@pytest.mark.parametrize(("name", "small"), VARIANTS)
def test_every_legal_config_reads_back_from_the_rendered_job(name, small, tmp_path, monkeypatch):
    space = load(name, small)
    for framework_name in space.frameworks:
        framework = get_framework(framework_name)
        find_programs_once(monkeypatch)
        legal = build_legal_set(space, framework.rules(space))
        rows = corners(legal)
        last = next(configs(legal, rows[-1:]))
        assert (last, last.derived) == (one := legal.config(int(rows[-1])), one.derived)
        trial = context(framework, tmp_path / "trials" / "0001")
        for config in configs(legal, rows):
            if config.get("framework", framework_name) != framework_name:
                continue
            job = framework.render(space, config, trial)
            back = framework.read_back(space, job)
            active = {k: v for k, v in config.values.items() if v is not None and k != "framework"}
            dropped = {k: (v, back.get(k)) for k, v in active.items() if back.get(k) != v}
            assert not dropped, f"value given and value read back differ: {dropped}"


@pytest.mark.parametrize(("name", "small"), VARIANTS)
def test_a_job_stays_inside_its_trials_folder(name, small, tmp_path):
    space = load(name, small)
    framework = get_framework(space.frameworks[0])
    legal = build_legal_set(space, framework.rules(space))
    job = framework.render(space, legal.config(0), context(framework, tmp_path / "t"))
    assert all(isinstance(argument, str) for argument in job.argv)
    assert all(isinstance(value, str) for value in job.env.values())
    for target in job.files:
        assert not Path(target).is_absolute()
        assert ".." not in Path(target).parts
    assert job.nodes == space.cluster.nodes
    assert job.gpus_per_node == space.cluster.gpus_per_node
    assert 0 < job.time_limit_s <= space.trial.time_limit_s
    assert framework.log_format(space) is not None


@pytest.mark.parametrize("name", SPACES)
def test_the_baseline_is_legal(name):
    space = load_space(name)
    framework = get_framework(space.frameworks[0])
    legal = build_legal_set(space, framework.rules(space))
    assert legal.find(space.baseline) is not None, legal.why_illegal(space.baseline)


@pytest.mark.parametrize("tool", ["torch", "nsys"])
@pytest.mark.parametrize("name", SPACES)
def test_a_profiler_is_switched_on(name, tool, tmp_path):
    """nsys by every framework, torch's by all but `command`, whose program is not ours."""
    space = load_space(name)
    if space.framework == "megatron":
        (tmp_path / "pretrain_gpt.py").touch()
        space = load_space(name, (f"options.megatron_lm_dir={tmp_path}",))
    framework = get_framework(space.frameworks[0])
    config = build_legal_set(space, framework.rules(space)).config(0)
    plain = RenderContext(trial_dir=tmp_path / "t")
    asked = replace(plain, profiler=tool, nsys_options=("--trace=cuda",) if tool == "nsys" else ())
    if (framework.name, tool) == ("command", "torch"):
        with pytest.raises(BadInput, match=r"(?s)command has no --with torch.*\{profiler\}"):
            framework.render(space, config, asked)
        return
    job, before = framework.render(space, config, asked), framework.render(space, config, plain)
    assert (job.argv[:2] == ("nsys", "profile")) == (tool == "nsys")
    assert ("--trace=cuda" in job.argv) == (tool == "nsys")
    assert ({*job.argv} - {*before.argv}) or job.files != before.files


EXPERTS = "expert_model_parallel_size > 1"
IGNORED = [
    (
        "llama1b_deepspeed",
        "overlap_comm={values: [false, true]}",
        "overlap_comm and zero_stage == 0",
    ),
    ("llama1b_deepspeed", "torch_compile_backend={values: [inductor]}", "not torch_compile"),
    ("llama8b_tp_pp", "cp_comm_type={values: [a2a]}", "context_parallel_size == 1"),
    ("llama8b_tp_pp", "moe_permute_fusion={values: [false, true]}", "moe_permute_fusion"),
    ("llama8b_torchtitan", "expert_model_parallel_size={values: [1, 2]}", EXPERTS),
    (
        "llama8b_torchtitan",
        'selective_ac_option={values: ["2"]}',
        "recompute_granularity == 'full'",
    ),
    ("gpt_torch", "compile_mode={values: [default]}", "not compile"),
]


@pytest.mark.parametrize(("name", "parameter", "ineffective"), IGNORED)
def test_a_value_that_its_program_would_ignore_is_illegal(name, parameter, ineffective):
    """It would be measured, and mean nothing."""
    space = load_space(name, (f"parameters.{parameter}", "baseline={}"))
    legal = build_legal_set(space, get_framework(space.frameworks[0]).rules(space))
    assert not Expression.parse(ineffective).holds(legal._rows()).any()


def test_a_model_that_the_program_does_not_build_is_refused():
    for override in ("model=llama-3.1-8b", "model=mixtral-8x7b"):
        space = load_space("gpt_torch", (override,))
        with pytest.raises(BadInput, match=r"gpt_torch/train\.py builds"):
            get_framework("torch").rules(space)
