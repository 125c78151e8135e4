"""megatron-core really trains: whatever the layout, the same losses and gradient norms.

Each run starts torch and megatron-core in one or two processes, so there are few of them and
each tests several things at once.
"""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from autotune.config import Config
from autotune.costmodel import CostModel
from autotune.frameworks import RenderContext, get_framework
from autotune.logs import Parser
from autotune.search.prior import prepare_table
from autotune.space import SearchSpace, build_legal_set, load_space
from autotune.trial import Job

pytest.importorskip("megatron.core")

Run = Callable[[Job, Path], str]
RUNNERS = Path(__file__).parents[2] / "runners"
STEPS = 4
LAYOUTS = {
    "tensor": {
        "tensor_model_parallel_size": 2, "sequence_parallel": True,
        "recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1,
    },
    "pipeline": {
        "pipeline_model_parallel_size": 2, "virtual_pipeline_model_parallel_size": 2,
        "recompute_granularity": "selective",
    },
    "data": {"use_distributed_optimizer": True, "overlap_grad_reduce": True},
}  # fmt: skip


def job_of(space: SearchSpace, values: dict, folder: Path) -> Job:
    config = Config({"micro_batch_size": 2, **values})
    context = RenderContext(trial_dir=folder, steps=STEPS)
    return get_framework("megatron").render(space, config, context)


def figures(folder: Path, ranks: int) -> list[tuple[float, float]]:
    """(loss, gradient norm) of every step, as the last rank printed them."""
    text = (folder / f"rank{ranks - 1}.log").read_text()
    pattern = r"lm loss: (\S+) \|.*grad norm: (\S+) \|"
    return [(float(loss), float(norm)) for loss, norm in re.findall(pattern, text)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> list[tuple[float, float]]:
    """The same job in one process, which no parallelism can have changed."""
    one_rank = ("cluster.gpus_per_node=1", "baseline.tensor_model_parallel_size=1")
    space = load_space("tiny_megatron_core", one_rank)
    folder = tmp_path_factory.mktemp("one")
    job = job_of(space, {}, folder)
    log = folder / "rank0.log"
    with log.open("w") as output:
        subprocess.run(job.argv, stdout=output, stderr=subprocess.STDOUT, check=True, timeout=240)
    return figures(folder, 1)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_ranks_learn_what_one_process_learns(
    layout: str, reference, run_job: Run, tmp_path: Path
):
    space = load_space("tiny_megatron_core")
    run_job(job_of(space, LAYOUTS[layout], tmp_path), tmp_path)
    found = figures(tmp_path, 2)
    assert len(found) == STEPS
    for (loss, norm), (loss_alone, norm_alone) in zip(found, reference, strict=True):
        assert loss == pytest.approx(loss_alone, rel=2e-5)
        assert norm == pytest.approx(norm_alone, rel=2e-3)
    assert found[0][0] != found[1][0]


@pytest.mark.slow
def test_sgd_and_bf16_on_two_ranks_print_what_the_parser_reads(run_job: Run, tmp_path: Path):
    space = load_space("tiny_megatron_core", ("contract.optimizer=sgd", "contract.precision=bf16"))
    first = run_job(job_of(space, {"tensor_model_parallel_size": 2}, tmp_path), tmp_path)
    assert "No GPU: megatron-core runs on CPU tensors" in first
    parser = Parser(get_framework("megatron").log_format(space))
    text = (tmp_path / "rank1.log").read_text()
    samples = [s for line in text.splitlines() for s in parser.feed(line, 0.0, 1)]
    steps = [sample for sample in samples if sample.seconds is not None]
    assert [sample.step for sample in steps] == list(range(1, STEPS + 1))
    assert all(sample.loss and sample.seconds > 0 for sample in steps)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--context-parallel-size", "2"], "Transformer Engine"),
        (["--fp8-format", "hybrid"], "fp8"),
        (["--num-experts", "4"], "experts"),
        (["--load", "/ckpt"], "megatron.training"),
        (["--attention-backend", "flash"], "flash"),
        (["--made-up-flag"], "--made-up-flag"),
    ],
)
def test_what_it_cannot_do_is_refused_with_a_sentence(words, reason, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(RUNNERS))
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = importlib.import_module("megatron_core.arguments").arguments
    model = (
        "--num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 32 "
        "--max-position-embeddings 32 --vocab-size 128 --global-batch-size 4"
    )
    assert arguments(model.split()).world_size == 2
    with pytest.raises(SystemExit) as ended:
        arguments([*model.split(), *words])
    assert ended.value.code == 2 and reason in capsys.readouterr().err


def test_its_attention_is_priced_as_it_runs():
    """Two H100 held 58.4 GiB without recomputation and 27.6 GiB with; flash holds as little."""
    changes = (
        "model=gpt2-124m", "cluster.gpu=h100_80gb", "parameters.micro_batch_size.values=[4, 32]",
        "contract={global_batch_size: 128, seq_length: 1024, precision: bf16, optimizer: adam}",
        "baseline.micro_batch_size=4",
    )  # fmt: skip
    space = load_space("tiny_megatron_core", changes)
    legal = build_legal_set(space, get_framework("megatron").rules(space))
    model = CostModel.for_space(space)
    table = prepare_table(model, legal)
    memory = table.device_memory(table.constants.mean)
    seen = {}
    for index in range(len(legal)):
        values = legal.config(index).values
        layout = (values["tensor_model_parallel_size"], values["pipeline_model_parallel_size"])
        if layout == (1, 1) and values["micro_batch_size"] == 32:
            seen[values["recompute_granularity"]] = float(memory[index])
    assert seen["none"] > 1.8 * seen["selective"]
