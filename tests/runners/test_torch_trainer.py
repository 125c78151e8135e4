"""Real training on the CPU: every rung of the ladder has to learn the same thing."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

RUNNERS = Path(__file__).resolve().parents[2] / "runners"
sys.path.insert(0, str(RUNNERS))

from torch_trainer.data import MockText  # noqa: E402
from torch_trainer.flags import parse_flags  # noqa: E402
from torch_trainer.loop import train  # noqa: E402
from torch_trainer.loss import LanguageModelLoss  # noqa: E402

torch.set_num_threads(1)  # tiny tensors: more threads only get in each other's way

LINE = re.compile(
    r"step (\d+)/(\d+) \| loss (\S+) \| step_time_s (\S+) \| tokens (\d+) \| tokens_per_s (\S+)"
)
TINY = {
    "num_layers": 2,
    "hidden_size": 32,
    "ffn_hidden_size": 64,
    "num_attention_heads": 4,
    "num_query_groups": 4,
    "vocab_size": 101,
    "seq_length": 16,
    "global_batch_size": 8,
    "micro_batch_size": 4,
    "steps": 4,
    "learning_rate": 1e-2,
}
SHAPES = {"gpt_torch": {}, "llama_torch": {"num_query_groups": 2}}
PROGRAMS = [name for name in SHAPES if (RUNNERS / name / "train.py").is_file()]


def model_class(program: str):
    path = RUNNERS / program / "model.py"
    spec = importlib.util.spec_from_file_location(f"{program}_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MODEL


def arguments(changes: dict[str, object]) -> list[str]:
    return [
        text
        for name, value in changes.items()
        for text in ("--" + name.replace("_", "-"), str(value).lower())
    ]


def losses(program: str, capsys, **changes) -> list[float]:
    """The printed losses of a run in this process."""
    values = {**TINY, **SHAPES[program], **changes}
    train(parse_flags("", argv=arguments(values)), model_class(program))
    return [float(found[3]) for found in LINE.finditer(capsys.readouterr().out)]


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request) -> str:
    return request.param


def test_the_loss_falls(program, capsys):
    found = losses(program, capsys, steps=12)
    assert len(found) == 12
    assert found[-1] < found[0] - 0.3


EXACT_RUNGS = [
    {"micro_batch_size": 1},
    {"micro_batch_size": 8},
    {"attention_backend": "sdpa"},
    {"causal_mask": "buffer"},
    {"fused_normalization": True},
    {"fused_gelu": True},
    {"optimizer_implementation": "foreach"},
    {"optimizer_implementation": "fused"},
    {"make_vocab_size_divisible_by": 64},
    {"cross_entropy": "chunked", "cross_entropy_chunks": 3},
    {"cross_entropy": "chunked", "make_vocab_size_divisible_by": 64},
    {"recompute_granularity": "full"},
    {"recompute_granularity": "selective", "attention_backend": "sdpa"},
    {"pin_memory": True, "matmul_precision": "high"},
]


@pytest.mark.parametrize("change", EXACT_RUNGS, ids=lambda c: "-".join(map(str, c.values())))
def test_an_fp32_rung_learns_the_same(program, change, capsys):
    reference = losses(program, capsys)
    assert losses(program, capsys, **change) == pytest.approx(reference, rel=2e-5)


@pytest.mark.parametrize(
    "change",
    [{}, {"residual_dtype": "bf16"}, {"cross_entropy": "chunked", "attention_backend": "sdpa"}],
    ids=["autocast", "residual", "chunked"],
)
def test_bf16_stays_near_fp32(program, change, capsys):
    reference = losses(program, capsys)
    found = losses(program, capsys, precision="bf16", **change)
    assert found == pytest.approx(reference, rel=1e-2)
    assert found != reference


def test_another_seed_is_another_run(program, capsys):
    assert losses(program, capsys, seed=1) != losses(program, capsys, seed=2)


@pytest.mark.parametrize("chunks", [1, 3, 7])
@pytest.mark.parametrize("rows", [101, 128])
def test_the_chunked_loss_has_the_full_losses_gradients(chunks, rows):
    values = {**TINY, "cross_entropy_chunks": chunks}
    torch.manual_seed(0)
    hidden, weight = torch.randn(3, 16, 32), torch.randn(rows, 32)
    targets = torch.randint(0, 101, (3, 16))
    results = []
    for kind in ("full", "chunked"):
        flags = parse_flags("", argv=arguments({**values, "cross_entropy": kind}))
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = LanguageModelLoss(flags)(h, w, targets)
        (loss * 3.0).backward()
        results.append((loss.detach(), h.grad, w.grad))
    for full, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, full, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels are written for CUDA")
@pytest.mark.parametrize(
    ("change", "tolerance"),
    [({"lm_head_precision": "same"}, 1e-2), ({"lm_head_precision": "fp8"}, 6e-2)],
    ids=["bf16", "fp8"],
)
def test_the_fused_losses_gradients_are_near_the_full_losses(change, tolerance):
    values = {**TINY, "vocab_size": 1000, "cross_entropy": "fused", "cross_entropy_chunks": 2}
    torch.manual_seed(0)
    hidden = torch.randn(4, 64, 64, device="cuda").bfloat16().requires_grad_()
    weight = (torch.randn(1024, 64, device="cuda") * 0.1).requires_grad_()
    targets = torch.randint(0, 1000, (4, 64), device="cuda")
    found = LanguageModelLoss(parse_flags("", argv=arguments({**values, **change})))(
        hidden, weight, targets
    )
    found.backward()
    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    full = parse_flags("", argv=arguments({**values, "cross_entropy": "full"}))
    wanted = LanguageModelLoss(full)(h, w, targets)
    wanted.backward()
    assert float(found) == pytest.approx(float(wanted), rel=tolerance)
    for ours, reference in ((hidden.grad, h.grad), (weight.grad, w.grad)):
        off = (ours.double() - reference).norm() / reference.norm()
        assert float(off) < tolerance


def test_every_layout_sees_the_same_samples():
    data = MockText(101, 16, seed=3, pin_memory=False)
    cpu = torch.device("cpu")
    whole, targets = data.micro_batch(40, 8, cpu)
    parts = [data.micro_batch(40 + start, 2, cpu)[0] for start in (0, 2, 4, 6)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(whole[:, 1:], targets[:, :-1])
    assert int(whole.max()) < 101


def run_program(program: str, ranks: int = 1, **changes) -> subprocess.CompletedProcess[str]:
    """The program as a trial starts it, with torchrun's variables for a gang; rank 0's output."""
    values = {**TINY, **SHAPES[program], **changes}
    command = [sys.executable, str(RUNNERS / program / "train.py"), *arguments(values)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    gang = []
    for rank in range(ranks):
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        if ranks > 1:
            env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        gang.append(
            subprocess.Popen(
                command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
    try:
        outputs = [process.communicate(timeout=200)[0] for process in gang]
    finally:
        for process in gang:
            process.kill()
    return subprocess.CompletedProcess(command, gang[0].returncode, outputs[0])


GANGS = [
    {"data_parallel": "ddp"},
    {"data_parallel": "ddp", "ddp_gradient_as_bucket_view": True, "micro_batch_size": 2},
    {"data_parallel": "ddp", "ddp_static_graph": True},
    {"data_parallel": "fsdp2"},
    {"data_parallel": "fsdp2", "fsdp_reshard_after_forward": False, "micro_batch_size": 2},
    {"data_parallel": "fsdp2", "cross_entropy": "chunked", "micro_batch_size": 2},
    {"data_parallel": "ddp", "compile": True, "micro_batch_size": 2},
    {"data_parallel": "fsdp2", "compile": True, "compile_scope": "block"},
]


@pytest.mark.slow
@pytest.mark.parametrize("change", GANGS, ids=lambda c: "-".join(map(str, c.values())))
def test_two_ranks_learn_what_one_does(change, capsys):
    reference = losses("gpt_torch", capsys)
    finished = run_program("gpt_torch", ranks=2, **change)
    assert finished.returncode == 0, finished.stdout
    found = [(float(line[3]), int(line[5])) for line in LINE.finditer(finished.stdout)]
    tolerance = 2e-4 if "compile" in change else 2e-5
    assert [loss for loss, _ in found] == pytest.approx(reference, rel=tolerance)
    assert {tokens for _, tokens in found} == {8 * 16}


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["block", "model"])
def test_compiled_code_learns_the_same(program, scope, capsys):
    reference = losses(program, capsys)
    finished = run_program(
        program, compile=True, compile_scope=scope, attention_backend="sdpa", micro_batch_size=4
    )
    assert finished.returncode == 0, finished.stdout
    found = [float(line[3]) for line in LINE.finditer(finished.stdout)]
    assert found == pytest.approx(reference, rel=2e-4)


def test_a_batch_that_does_not_divide_is_refused_with_a_reason(program):
    finished = run_program(program, micro_batch_size=3)
    assert finished.returncode == 1
    assert "micro_batch_size 3" in finished.stdout


def test_its_lines_are_read_as_it_means_them(program):
    from autotune.logs import Parser, get_format

    finished = run_program(program)
    parser = Parser(get_format("sft"))
    samples = [s for line in finished.stdout.splitlines() for s in parser.feed(line)]
    samples += parser.finish()
    assert [sample.step for sample in samples] == [1, 2, 3, 4]
    for sample in samples:
        assert sample.tokens == 8 * 16
        assert sample.tokens_per_s == pytest.approx(8 * 16 / sample.seconds, rel=1e-2)
        assert sample.memory_gib is not None and sample.memory_gib > 0.05


def test_a_profile_is_written_where_it_was_asked_for(program, tmp_path):
    folder = tmp_path / "profile"
    finished = run_program(program, profiler="torch", profile_dir=folder, steps=6)
    assert finished.returncode == 0, finished.stdout
    assert [path.suffix for path in folder.iterdir()] == [".json"]
