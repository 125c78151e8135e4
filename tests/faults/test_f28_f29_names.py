"""F28, F29: a space that changed, and a study's name that is taken, are refused with a way out."""

from __future__ import annotations

from tests.controller.conftest import Cli
from tests.faults.conftest import SLOW_SPACE, check_invariants

RUN = ("run", "--space", "slow.yaml", "--study", "s", "--sampler", "random", "--trials", "2")


def test_f28_a_changed_space_is_refused_with_a_diff(slow: Cli) -> None:
    slow(*RUN)
    slow.write("slow.yaml", SLOW_SPACE.replace("[1, 2, 3]", "[1, 2, 3, 4]"))
    said = slow("resume", "s", "--space", "slow.yaml", expect=2).stderr
    assert "parameters.batch.values" in said and "[1, 2, 3, 4]" in said and "--extend" in said
    assert len(check_invariants(slow, "s")) == 2


def test_f28_extend_starts_a_study_with_what_was_measured(slow: Cli) -> None:
    slow(*RUN)
    slow.write("slow.yaml", SLOW_SPACE.replace("[1, 2, 3]", "[1, 2, 3, 4]"))
    slow("resume", "s", "--space", "slow.yaml", "--extend", "--trials", "8")
    before, after = (check_invariants(slow, name) for name in ("s", "s-1"))
    assert [t["params"] for t in after[:2]] == [t["params"] for t in before]
    assert {t["params"]["batch"] for t in after} == {1, 2, 3, 4}  # type: ignore[index]


def test_f29_a_taken_name_offers_resume_or_another(slow: Cli) -> None:
    slow(*RUN)
    said = slow(*RUN, expect=2).stderr
    assert "autotune resume s" in said and "--study NAME" in said
    assert len(check_invariants(slow, "s")) == 2
