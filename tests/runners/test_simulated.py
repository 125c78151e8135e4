"""The simulated cluster: a program of its own that takes flags, says what it is and replays."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from autotune.costmodel import CostModel
from autotune.frameworks import RenderContext, get_framework
from autotune.logs import EvidenceCollector, Parser
from autotune.space import LegalSet, SearchSpace, build_legal_set, load_space
from autotune.trial import StepSample

ROOT = Path(__file__).parents[2]
MEGATRON = get_framework("megatron")
FAST = 1e6


@pytest.fixture(scope="module")
def physics():
    sys.path.insert(0, str(ROOT / "runners"))
    yield importlib.import_module("simulated.physics")
    sys.path.remove(str(ROOT / "runners"))


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space("llama70b_tp_pp")


@pytest.fixture(scope="module")
def legal(space) -> LegalSet:
    return build_legal_set(space, MEGATRON.rules(space))


@pytest.fixture(scope="module")
def model(space) -> CostModel:
    return CostModel.for_space(space)


class Ran:
    """One simulated trial that has ended."""

    def __init__(self, space: SearchSpace, config, folder: Path, seed: int = 0, **fields) -> None:
        context = RenderContext(
            trial_dir=folder, simulated=True, simulation_seed=seed,
            **{"time_compression": FAST, **fields},
        )  # fmt: skip
        self.job = MEGATRON.render(space, config, context)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.job.files.items():
            (folder / name).write_text(text)
        began = time.monotonic()
        done = subprocess.run(
            self.job.argv, capture_output=True, text=True, timeout=120, check=False
        )
        self.wall_s = time.monotonic() - began
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        parser = Parser(MEGATRON.log_format(space))
        lines = [*self.out.splitlines(), *self.err.splitlines()]
        read = [sample for line in lines for sample in parser.feed(line, 0.0, 0)]
        self.steps: list[StepSample] = [s for s in read if s.seconds is not None]
        self.evidence = EvidenceCollector()
        for line in lines:
            self.evidence.feed(line, 0, 0.0)


def test_its_first_line_says_that_nothing_was_measured(space, legal, tmp_path):
    ran = Ran(space, legal.config(legal.baseline), tmp_path)
    assert ran.code == 0
    assert ran.out.startswith("SIMULATED: no GPU is used and nothing is measured")


def test_what_it_prints_is_what_the_truth_says(space, legal, model, physics, tmp_path):
    ran = Ran(space, legal.config(legal.baseline), tmp_path, seed=3)
    truth = physics.true_step_time_and_memory(model, legal.columns(), 3)
    assert [sample.step for sample in ran.steps] == list(range(1, space.trial.steps + 1))
    steady = [sample.seconds for sample in ran.steps[2:]]
    assert np.median(steady) == pytest.approx(truth.step_time_s[legal.baseline], rel=0.03)
    assert ran.steps[0].seconds > 1.2 * np.median(steady)
    assert len(set(steady)) == len(steady)
    peaks = [float(found) / 1024 for found in re.findall(r"max allocated: (\S+)", ran.out)]
    assert max(peaks) == pytest.approx(truth.memory_gib[legal.baseline].max(), abs=1.5)
    ranks = set(re.findall(r"\[Rank (\d+)\]", ran.out))
    assert ranks == {str(rank) for rank in range(16)}
    counts = [int(found) for found in re.findall(r"parallel rank \(\d+, \d+\): (\d+)", ran.out)]
    assert len(counts) == 16 and sum(counts) == pytest.approx(70.6e9, rel=0.005)


def test_flags_and_columns_tell_the_same_truth(space, legal, model, physics, tmp_path, monkeypatch):
    """The trial knows flags, the bench knows columns: both have to mean the same machine."""
    monkeypatch.syspath_prepend(str(ROOT / "runners"))
    truth = physics.true_step_time_and_memory(model, legal.columns(), 5)
    train = importlib.import_module("simulated.train")
    job_of = importlib.import_module("simulated.job")
    for index in np.random.default_rng(1).choice(len(legal), 60, replace=False).tolist():
        context = RenderContext(trial_dir=tmp_path, simulated=True, simulation_seed=5)
        job = MEGATRON.render(space, legal.config(index), context)
        for name, text in job.files.items():
            (tmp_path / name).write_text(text)
        told = job_of.truth_of(train.arguments(list(job.argv[2:])))
        assert told.step_time_s[0] == pytest.approx(truth.step_time_s[index], rel=1e-9)
        assert told.memory_gib[0] == pytest.approx(truth.memory_gib[index], rel=1e-9)


def test_a_mixture_of_experts_is_simulated_too(tmp_path):
    space = load_space(ROOT / "tests" / "frameworks" / "megatron_experts.yaml")
    legal = build_legal_set(space, MEGATRON.rules(space))
    ran = Ran(space, legal.config(legal.baseline), tmp_path, steps=3)
    assert ran.code == 0 and len(ran.steps) == 3


def test_what_does_not_fit_dies_as_torch_does(space, legal, model, physics, tmp_path):
    truth = physics.true_step_time_and_memory(model, legal.columns(), 0)
    capacity = model.capacity_gib
    in_step = np.flatnonzero((truth.states_gib.max(1) < 0.8 * capacity) & ~truth.fits(capacity))
    at_start = np.flatnonzero(truth.states_gib.max(1) > capacity)
    for index, steps_expected in ((int(in_step[0]), 0), (int(at_start[0]), 0)):
        ran = Ran(space, legal.config(index), tmp_path / str(index))
        assert ran.code == 1
        assert len(ran.steps) == steps_expected
        assert "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate" in ran.err
        assert "oom_gpu" in ran.evidence.findings
    assert "train_step" not in ran.err


def test_the_rank_that_dies_is_on_the_fullest_stage(space, legal, model, physics, tmp_path):
    truth = physics.true_step_time_and_memory(model, legal.columns(), 0)
    over = ~truth.fits(model.capacity_gib) & (legal.column("pipeline_model_parallel_size") == 2)
    for stage in (0, 2):
        rows = np.flatnonzero(over & (truth.memory_gib.argmax(axis=1) == stage))
        rows = [row for row in rows if truth.states_gib[row].max() < 0.8 * model.capacity_gib]
        if rows:
            ran = Ran(space, legal.config(int(rows[0])), tmp_path / str(stage))
            rank = int(re.search(r"\[rank(\d+)\]", ran.err)[1])
            assert (rank >= 8) == (stage == 2)


def test_hidden_effects_stay_within_what_is_promised(legal, model, physics):
    columns = {name: column[::23] for name, column in legal.columns().items()}
    nominal = model.prepare(columns).predict()
    totals = nominal.memory_gib
    for seed in range(20):
        truth = physics.true_step_time_and_memory(model, columns, seed)
        off = truth.memory_gib.max(axis=1) / totals
        assert off.min() >= 0.9 - 1e-9 and off.max() <= 1.1 + 1e-9
        assert 0.0 < truth.noise < 0.02
        ratio = truth.step_time_s / nominal.step_time_s
        assert ratio.min() > 0.5 and ratio.max() < 1.7


def test_layouts_differ_from_the_model_each_in_their_own_way(legal, model, physics):
    columns = legal.columns()
    nominal = model.prepare(columns).predict().step_time_s
    ratios = [
        physics.true_step_time_and_memory(model, columns, seed).step_time_s / nominal
        for seed in (0, 1)
    ]
    for ratio in ratios:
        assert np.std(np.log(ratio)) > 0.02
    assert abs(np.corrcoef(np.log(ratios[0]), np.log(ratios[1]))[0, 1]) < 0.9


def test_a_seed_is_one_machine_whatever_else_is_computed_with_it(legal, model, physics):
    columns = legal.columns()
    rows = np.arange(0, len(legal), 997)
    whole = physics.true_step_time_and_memory(model, columns, 4)
    part = physics.true_step_time_and_memory(model, {k: v[rows] for k, v in columns.items()}, 4)
    assert np.array_equal(whole.step_time_s[rows], part.step_time_s)
    other = physics.true_step_time_and_memory(model, columns, 6)
    assert not np.allclose(other.step_time_s, whole.step_time_s)


def test_losses_depend_on_the_seed_and_hardly_on_the_layout(space, legal, tmp_path):
    rows = [legal.baseline, *np.random.default_rng(2).choice(len(legal), 40).tolist()]
    ran = []
    for number, row in enumerate(rows):
        one = Ran(space, legal.config(int(row)), tmp_path / str(number), steps=4)
        if one.code == 0:
            ran.append([sample.loss for sample in one.steps])
        if len(ran) == 2:
            break
    assert len(ran) == 2
    assert ran[0] == pytest.approx(ran[1], rel=1e-4)
    other = Ran(space, legal.config(legal.baseline), tmp_path / "other", steps=4, seed=0)
    assert [sample.loss for sample in other.steps] == pytest.approx(ran[0], rel=1e-4)
    reseeded = MEGATRON.render(
        space,
        legal.config(legal.baseline),
        RenderContext(trial_dir=tmp_path, simulated=True, seed=7),
    )
    assert reseeded.argv[reseeded.argv.index("--seed") + 1] == "7"
    assert ran[0][0] > ran[0][-1] > 8.0


def test_a_trial_replays_exactly_and_a_repeated_one_differs(space, legal, tmp_path):
    config = legal.config(legal.baseline)
    first = Ran(space, config, tmp_path / "a" / "0007")
    again = Ran(space, config, tmp_path / "b" / "0007")
    later = Ran(space, config, tmp_path / "a" / "0008")
    seconds = [[sample.seconds for sample in ran.steps] for ran in (first, again, later)]
    assert seconds[0] == seconds[1] != seconds[2]


def test_time_is_compressed_as_asked(space, legal, tmp_path):
    slow = Ran(space, legal.config(legal.baseline), tmp_path, steps=4, time_compression=300.0)
    simulated = sum(sample.seconds for sample in slow.steps)
    assert slow.wall_s >= simulated / 300.0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--made-up"], 2, "unrecognized arguments: --made-up"),
        (["--pipeline-model-parallel-size", "3"], 1, "AssertionError: world size"),
        (["--recompute-granularity", "selective"], 1, "recompute method is not yet supported"),
        (["--global-batch-size", "127", "--micro-batch-size", "2"], 1, "is not divisible"),
        (["--num-virtual-stages-per-pipeline-rank", "7"], 1, "must be divisible"),
    ],
)
def test_it_refuses_what_megatron_refuses(space, legal, tmp_path, words, code, said):
    context = RenderContext(trial_dir=tmp_path, simulated=True)
    job = MEGATRON.render(space, legal.config(legal.baseline), context)
    for name, text in job.files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [*job.argv, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code and said in done.stderr


def test_the_job_stands_for_the_whole_cluster(space, legal, tmp_path):
    context = RenderContext(trial_dir=tmp_path, simulated=True, time_compression=500.0)
    job = MEGATRON.render(space, legal.config(legal.baseline), context)
    assert (job.per, job.nodes, job.gpus_per_node) == ("job", 2, 8)
    assert job.time_compression == 500.0 and job.total_steps == space.trial.steps
    cluster = json.loads(job.files["simulated_cluster.json"])
    assert cluster["hardware"]["name"] == "h200_141gb"
