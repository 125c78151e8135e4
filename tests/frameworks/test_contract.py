"""What every framework and every shipped space has to hold; newcomers are picked up unedited.

A value that is dropped or changed between config and job would be measured and mean nothing:
each legal pair of values, of any two parameters of each shipped space, is rendered in some config
and read back from arguments, environment and files alone.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from autotune.config import Config
from autotune.errors import BadInput
from autotune.frameworks import Framework, RenderContext, framework_names, get_framework
from autotune.space import LegalSet, SearchSpace, build_legal_set, list_spaces, load_space

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


def corners(legal: LegalSet) -> list[Config]:
    """Configs that hold every legal pair of values of any two parameters, absence included."""
    chosen = {0, len(legal) - 1}
    for first, second in combinations(range(legal.codes.shape[1]), 2):
        pairs = legal.codes[:, first].astype(np.int64) * 1000 + legal.codes[:, second]
        covered = pairs[sorted(chosen)]
        found, rows = np.unique(pairs, return_index=True)
        chosen |= set(rows[~np.isin(found, covered)].tolist())
    return [legal.config(index) for index in sorted(chosen)]


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
def test_every_pair_of_values_reads_back_from_the_rendered_job(name, small, tmp_path):
    space = load(name, small)
    for framework_name in space.frameworks:
        framework = get_framework(framework_name)
        legal = build_legal_set(space, framework.rules(space))
        for number, config in enumerate(corners(legal)):
            if config.get("framework", framework_name) != framework_name:
                continue
            trial_dir = tmp_path / "trials" / f"{number:04d}"
            job = framework.render(space, config, context(framework, trial_dir))
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
