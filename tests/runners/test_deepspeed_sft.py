"""The DeepSpeed runner under real DeepSpeed: two ranks, gloo, a tiny Llama.

Whatever DeepSpeed is told to do, the losses must be those of one plain PyTorch process.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("deepspeed")
RUNNERS = Path(__file__).resolve().parents[2] / "runners"
sys.path.insert(0, str(RUNNERS))

from sft_data.instructions import (  # noqa: E402
    HashTokenizer,
    SampleOrder,
    collate,
    load_examples,
)
from sft_data.models import build_model  # noqa: E402

from autotune.config import Config  # noqa: E402
from autotune.frameworks import RenderContext, get_framework  # noqa: E402
from autotune.logs import Parser  # noqa: E402
from autotune.space import SearchSpace, build_legal_set, parse_space  # noqa: E402
from autotune.trial import Job, StepSample  # noqa: E402

pytestmark = pytest.mark.slow

DEEPSPEED = get_framework("deepspeed")
STEPS, BATCH, LENGTH, SEED = 5, 8, 96, 1234
LEARNING_RATE, CLIP = 1e-3, 1.0
SPACE = """
name: tiny_deepspeed
model: tiny-llama
cluster: {nodes: 1, gpus_per_node: 2, gpu: cpu_host}
framework: deepspeed
contract: {global_batch_size: 8, seq_length: 96, precision: fp32, optimizer: adamw}
parameters:
  tensor_model_parallel_size: {values: [1, 2]}
  zero_stage: {values: [0, 1, 2, 3]}
  micro_batch_size: {values: [1, 2, 4]}
  gradient_checkpointing: {values: [false, true]}
  offload_optimizer: {values: [false, true], when: zero_stage >= 1}
  offload_param: {values: [false, true], when: zero_stage == 3}
  overlap_comm: {values: [false, true], when: zero_stage >= 1}
  torch_compile: {values: [false, true]}
  torch_compile_backend: {values: [aot_eager], when: torch_compile}
  padding: {values: [longest, max_length]}
options: {learning_rate: 1.0e-3, gradient_clipping: 1.0}
trial: {steps: 5}
"""
PLAIN = {
    "tensor_model_parallel_size": 1,
    "zero_stage": 0,
    "micro_batch_size": 2,
    "gradient_checkpointing": False,
    "offload_optimizer": False,
    "offload_param": False,
    "overlap_comm": False,
    "torch_compile": False,
    "torch_compile_backend": "aot_eager",
    "padding": "longest",
}

RunJob = Callable[[Job, Path], str]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return parse_space(SPACE)


def _config(space: SearchSpace, **changes: object) -> Config:
    legal = build_legal_set(space, DEEPSPEED.rules(space))
    wanted = {**PLAIN, **changes}
    zero = wanted["zero_stage"]
    active = {"offload_optimizer": zero, "overlap_comm": zero, "offload_param": zero == 3}
    active["torch_compile_backend"] = wanted["torch_compile"]
    wanted = {name: value for name, value in wanted.items() if active.get(name, True)}
    place = legal.find(wanted)
    assert place is not None, legal.why_illegal(wanted)
    return legal.config(place)


@pytest.fixture(scope="module")
def reference(space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of the same training in one process of plain PyTorch, the batch in one piece."""
    folder = tmp_path_factory.mktemp("reference")
    files = DEEPSPEED.render(space, _config(space), RenderContext(folder)).files
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text(files["model/config.json"])
    model = build_model(str(folder / "model/config.json"), torch.float32, SEED).train()
    examples = load_examples(
        RUNNERS / "sft_data" / "alpaca.jsonl", HashTokenizer(model.config.vocab_size), LENGTH
    )
    order = SampleOrder(len(examples), SEED)
    adam = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        batch = collate([examples[index] for index in order.step(step, BATCH)], pad_id=0)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adam.step()
        adam.zero_grad()
        losses.append(loss.item())
    return losses


def _samples(space: SearchSpace, log: str) -> list[StepSample]:
    parser = Parser(DEEPSPEED.log_format(space))
    return [sample for line in log.splitlines() for sample in parser.feed(line)]


CASES = {
    "ddp": {},
    "zero1 checkpointing": {"zero_stage": 1, "gradient_checkpointing": True},
    "zero2 offload": {"zero_stage": 2, "offload_optimizer": True, "micro_batch_size": 4},
    "zero3 overlap": {"zero_stage": 3, "overlap_comm": True, "micro_batch_size": 1},
    "zero3 all offloaded": {"zero_stage": 3, "offload_optimizer": True, "offload_param": True},
    "compiled": {"zero_stage": 1, "torch_compile": True, "padding": "max_length"},
}


@pytest.mark.parametrize("case", CASES)
def test_losses_are_those_of_one_plain_process(
    case: str, space: SearchSpace, reference: list[float], run_job: RunJob, tmp_path: Path
) -> None:
    job = DEEPSPEED.render(space, _config(space, **CASES[case]), RenderContext(tmp_path))
    samples = _samples(space, run_job(job, tmp_path))
    assert [sample.step for sample in samples] == list(range(1, STEPS + 1))
    assert [sample.loss for sample in samples] == pytest.approx(reference, abs=2e-5)


def test_low_precision_keeps_fp32_masters_and_an_honest_first_step(
    reference: list[float], run_job: RunJob, tmp_path: Path
) -> None:
    """ZeRO-0's wrapper counts a dry Adam step, which used to shrink the first updates."""
    space = parse_space(SPACE.replace("precision: fp32", "precision: bf16"))
    job = DEEPSPEED.render(space, _config(space), RenderContext(tmp_path))
    samples = _samples(space, run_job(job, tmp_path))
    assert [sample.loss for sample in samples] == pytest.approx(reference, abs=8e-3)


def test_autotp_tokens_are_true_where_deepspeed_counts_twice(
    space: SearchSpace, reference: list[float], run_job: RunJob, tmp_path: Path
) -> None:
    config = _config(space, tensor_model_parallel_size=2, zero_stage=1, micro_batch_size=4)
    job = DEEPSPEED.render(space, config, RenderContext(tmp_path))
    log = run_job(job, tmp_path)
    samples = _samples(space, log)
    assert [sample.loss for sample in samples] == pytest.approx(reference, abs=2e-5)

    examples = load_examples(RUNNERS / "sft_data" / "alpaca.jsonl", HashTokenizer(1024), LENGTH)
    order = SampleOrder(len(examples), SEED)
    for step, sample in enumerate(samples):
        true_tokens = sum(len(examples[index].ids) for index in order.step(step, BATCH))
        assert sample.tokens == true_tokens
        assert sample.seconds is not None
        assert sample.tokens_per_s == pytest.approx(true_tokens / sample.seconds, rel=1e-3)

    claims = re.findall(r"CurrSamplesPerSec=([0-9.]+)", log)
    ratios = [
        float(claim) * float(sample.seconds or 0.0) / BATCH
        for claim, sample in zip(reversed(claims), reversed(samples), strict=False)
    ]
    assert len(ratios) >= 2
    assert min(ratios) > 1.6, f"DeepSpeed no longer counts tensor-parallel ranks: {ratios}"


def test_a_checkpoint_folder_and_its_weights_are_used(
    space: SearchSpace, reference: list[float], run_job: RunJob, tmp_path: Path
) -> None:
    """Weights saved from another seed start from another loss; the profiler writes its trace."""
    config = _config(space, zero_stage=1)
    rendered = DEEPSPEED.render(space, config, RenderContext(tmp_path, profiler="torch"))
    (tmp_path / "config.json").write_text(rendered.files["model/config.json"])
    checkpoint = tmp_path / "checkpoint"
    other = build_model(str(tmp_path / "config.json"), torch.float32, SEED + 1)
    other.save_pretrained(checkpoint)
    with_model = parse_space(SPACE, overrides=[f"options.model_path={checkpoint}"])
    job = DEEPSPEED.render(with_model, config, RenderContext(tmp_path, profiler="torch"))
    assert "model/config.json" not in job.files
    samples = _samples(space, run_job(job, tmp_path))
    assert samples[0].loss is not None
    assert abs(samples[0].loss - reference[0]) > 1e-3
    assert (tmp_path / "profile" / "trace.rank0.json").stat().st_size > 1000


BUILDS = """
import os, time, types, builds
builds.warn_of_build_locks()
def build(op, verbose=True):
    time.sleep(1.0)
    print("notes", [open(f).read() for f in os.listdir() if f.startswith("preparing")])
builds.OpBuilder.jit_load = build
builds.announce_builds(quick_s=0.0)
os.chdir(os.environ["AUTOTUNE_TRIAL_DIR"])
builds.OpBuilder.jit_load(types.SimpleNamespace(name="cpu_adam"))
print("left", os.listdir())
"""


def test_a_build_of_an_operator_is_announced_and_so_is_a_lock_it_would_wait_on(
    tmp_path: Path,
) -> None:
    """DeepSpeed compiles, and waits for the lock of a cut-off build, without a word of its own."""
    (tmp_path / "py311_cpu/cpu_adam").mkdir(parents=True)
    (tmp_path / "py311_cpu/cpu_adam/lock").touch()
    trial = tmp_path / "trial"
    trial.mkdir()
    said = subprocess.run(
        [sys.executable, "-c", BUILDS],
        cwd=RUNNERS / "deepspeed_sft",
        env={
            **os.environ,
            "DS_ACCELERATOR": "cpu",
            "TORCH_EXTENSIONS_DIR": str(tmp_path),
            "AUTOTUNE_TRIAL_DIR": str(trial),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert f"warning: {tmp_path}/py311_cpu/cpu_adam/lock exists" in said
    assert "notes ['DeepSpeed compiles its operator cpu_adam (minutes, once)']" in said
    assert "compiled after" in said and "left []" in said
