"""accelerate: the two fidelities, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.errors import BadInput
from autotune.frameworks import RenderContext, get_framework
from autotune.space import build_legal_set, load_space

ACCELERATE = get_framework("accelerate")
CONTEXT = RenderContext(Path("/trial"))


def test_steps_ask_for_throughput_and_their_absence_for_the_target() -> None:
    space = load_space("llama1b_dolly_ttt")
    legal = build_legal_set(space, ACCELERATE.rules(space))
    place = legal.find(space.baseline)
    assert place is not None
    full = ACCELERATE.render(space, legal.config(place), CONTEXT)
    assert "--target-loss" in full.argv and full.total_steps is None
    cheap = ACCELERATE.render(space, legal.config(place), RenderContext(Path("/trial"), steps=16))
    assert "--target-loss" not in cheap.argv and cheap.total_steps == 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("contract.precision=fp8", "unknown value of precision 'fp8'"),
        ("contract.optimizer=lion", "unknown value of optimizer 'lion'"),
        ("options.eval_intervall=3", "Did you mean 'eval_interval'"),
    ],
)
def test_what_cannot_be_expressed_is_an_error(override: str, message: str) -> None:
    space = load_space("llama1b_dolly_ttt", [override])
    with pytest.raises(BadInput, match=message):
        ACCELERATE.rules(space)
