"""What a check of the arguments raises is a refused configuration, whatever its words."""

from __future__ import annotations

import pytest

from autotune.logs import EvidenceCollector, SampleTally, diagnose
from autotune.trial import Outcome


def outcome(frame: str, source: str, error: str, mark: str = "") -> tuple[Outcome, tuple[str, ...]]:
    evidence = EvidenceCollector()
    lines = [
        "Traceback (most recent call last):",
        '  File "/opt/train/pretrain.py", line 301, in <module>',
        "    pretrain(provider)",
        f'  File "/opt/train/{frame.split()[0]}", line 77, in {frame.split()[1]}',
        f"    {source}",
        error,
    ]
    for number, line in enumerate(lines):
        evidence.feed(mark + line, 0, float(number))
    verdict = diagnose(None, evidence, SampleTally())
    return verdict.outcome, verdict.parameters


REFUSED = [
    ("arguments.py validate_args", "assert args.min_lr <= args.lr", "AssertionError"),
    ("arguments.py validate_args", "assert args.micro_batch_size > 0", "AssertionError"),
    (
        "transformer_config.py __post_init__",
        "raise ValueError(",
        "ValueError: rotary_interleaved does not work with apply_rope_fusion.",
    ),
    (
        "transformer_config.py __post_init__",
        "raise NotImplementedError(",
        "NotImplementedError: this connection is not compatible with pipelines.",
    ),
    (
        "config.py _do_error_check",
        "assert self.zero_config.stage <= MAX",
        "AssertionError: DeepSpeedConfig: Maximum supported ZeRO stage is 3",
    ),
    ("pipe/engine.py _validate", "raise ValueError(", "ValueError: 3 stages for 2 ranks"),
    (
        "parallel_dims.py _validate",
        "assert dp * cp * tp * pp == self.world_size, (",
        "AssertionError: Invalid parallel dims: dp(2) * cp(1) * tp(2) * pp(1) != WORLD_SIZE(8)",
    ),
    (
        "llama/parallelize.py parallelize_llama",
        "raise RuntimeError(",
        "RuntimeError: DDP has not supported > 1D parallelism",
    ),
]


@pytest.mark.parametrize("mark", ["", "[rank3]: "])
@pytest.mark.parametrize(("frame", "source", "error"), REFUSED)
def test_refused_by_a_check(frame: str, source: str, error: str, mark: str) -> None:
    assert outcome(frame, source, error, mark)[0] is Outcome.INVALID_CONFIG


CRASHED = [
    ("parallel_state.py get_group", "assert _G is not None, (", "AssertionError: no group yet"),
    ("attention.py forward", "out = kernel(q)", "RuntimeError: shape '[2, 3]' is for input of 5"),
    ("config.py __post_init__", "x = torch.empty(1)", "RuntimeError: CUDA error: unknown error"),
    ("config.py __post_init__", "self.a = b.c", "AttributeError: 'B' has no attribute 'c'"),
    ("data.py validate", "for batch in loader:", "StopIteration:"),
    ("model.py check_loss", "raise ValueError(", "ValueError: something odd"),
]


@pytest.mark.parametrize(("frame", "source", "error"), CRASHED)
def test_other_errors_are_no_refusals(frame: str, source: str, error: str) -> None:
    assert outcome(frame, source, error)[0] is Outcome.CRASH


def test_memory_that_ran_out_in_a_check_is_no_refusal() -> None:
    error = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert outcome("config.py validate", "warm_up()", error)[0] is Outcome.OOM_GPU


def test_the_innermost_frame_counts() -> None:
    evidence = EvidenceCollector()
    for line in (
        '  File "arguments.py", line 7, in validate_args',
        '  File "device.py", line 9, in probe',
        "RuntimeError: must not happen",
    ):
        evidence.feed(line)
    assert diagnose(None, evidence, SampleTally()).outcome is Outcome.CRASH


def test_named_parameters_are_told() -> None:
    error = "ValueError: Muon and reduce scatter cannot be used together"
    found = outcome("zero/stage3.py __init__", "raise ValueError(", error)
    assert found == (Outcome.INVALID_CONFIG, ("reduce_scatter",))
