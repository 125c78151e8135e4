"""Parameter counts against the totals that the models' makers published."""

from __future__ import annotations

import pytest
import yaml

from autotune.content import find_content
from autotune.costmodel.counts import active_parameters, flops_per_token, total_parameters
from autotune.space.model import ModelShape


def shape(name: str) -> ModelShape:
    path = find_content("search_spaces", f"models/{name}.yaml")
    assert path is not None, f"search_spaces/models/{name}.yaml ships"
    return ModelShape(**yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("llama-3.1-405b", 405_853_388_800),
        ("mixtral-8x7b", 46_702_792_704),
        ("deepseek-v3", 671_026_404_352),
        ("llama-2-7b", 6_738_415_616),
        ("gpt2-124m", 124_439_808),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_totals_are_the_published_ones(name: str, published: int) -> None:
    assert total_parameters(shape(name)) == published


def test_gpt3_is_the_175b_of_its_paper() -> None:
    # Brown et al. 2020 prints 175.0B for 96 layers of 12288; the exact count is not published.
    assert total_parameters(shape("gpt3-175b")) == pytest.approx(175e9, rel=0.003)


def test_active_parameters_are_what_a_token_meets() -> None:
    # Mixtral's paper: 13B of 47B active; DeepSeek-V3's report: 37B of 671B.
    assert active_parameters(shape("mixtral-8x7b")) == pytest.approx(12.9e9, rel=0.01)
    assert active_parameters(shape("deepseek-v3")) == pytest.approx(37e9, rel=0.03)
    assert active_parameters(shape("llama-3.1-8b")) == total_parameters(shape("llama-3.1-8b"))


def test_flops_are_six_per_matmul_parameter_plus_attention() -> None:
    llama = shape("llama-3.1-8b")
    lookup = llama.vocab_size * llama.hidden_size
    attention = 12 * 32 * 4096 * 8192
    assert flops_per_token(llama, 8192) == 6 * (total_parameters(llama) - lookup) + attention
    assert flops_per_token(llama, 8192, causal=True) < flops_per_token(llama, 8192)
