"""Our search under Ray Tune: a whole Tune run, and the searcher's memory by itself."""

from __future__ import annotations

import importlib.util
import math
import os

import pytest

from autotune.errors import BadInput
from autotune.search.rows import FiniteRows
from autotune.search.tune import TuneHistory, make_searcher
from tests.engines.ray import own_ray

ROWS = FiniteRows.product(
    {"tp": [1, 2, 4], "mbs": [1, 2, 4, 8]}, lambda v: int(v["tp"]) * int(v["mbs"]) <= 16
)


def speed(tp: int, mbs: int) -> float:
    return 100.0 / (1.0 + 0.1 * math.log2(tp)) * (1.0 - 0.3 / mbs)


def history() -> TuneHistory:
    return TuneHistory(ROWS, "tokens_per_s", "max", None, 0)


def test_asks_every_row_once_and_then_no_more() -> None:
    memory = history()
    asked = []
    for k in range(len(ROWS)):
        values = memory.ask(str(k))
        assert values is not None
        asked.append(tuple(values.values()))
        memory.tell(str(k), {"tokens_per_s": speed(**values)}, error=False)
    assert len(set(asked)) == len(ROWS)
    assert memory.ask("more") is None


def test_running_trials_are_not_asked_again_and_errors_are_told() -> None:
    memory = history()
    first, second = memory.ask("a"), memory.ask("b")
    assert first != second
    memory.tell("a", None, error=True)
    memory.tell("b", {"oom": True}, error=True)
    assert [str(r.outcome) for r in memory.records] == ["crash", "oom_gpu"]
    memory.tell("stranger", {"tokens_per_s": 1.0}, error=False)
    assert len(memory.records) == 2


def test_a_saved_searcher_goes_on_alike(tmp_path) -> None:
    memory, again = history(), history()
    for k in range(4):
        values = memory.ask(str(k))
        assert values is not None
        memory.tell(str(k), {"tokens_per_s": speed(**values)}, error=False)
    memory.save(str(tmp_path / "state.json"))
    again.restore(str(tmp_path / "state.json"))
    assert again.ask("next") == memory.ask("next")


def test_a_wrong_mode_is_refused() -> None:
    with pytest.raises(BadInput, match="Known: max, min"):
        make_searcher(ROWS, "tokens_per_s", "best")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_whole_tune_run(tmp_path) -> None:
    missing = importlib.util.find_spec("ray") is None
    if missing and not os.environ.get("AUTOTUNE_REQUIRE_ALL"):
        pytest.skip("ray is not installed")
    from ray import tune

    def train(config: dict) -> None:
        tune.report({"tokens_per_s": speed(config["tp"], config["mbs"])})

    searcher = make_searcher(ROWS, "tokens_per_s", "max")
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=6, max_concurrent_trials=2),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    with own_ray():
        results = tuner.fit()
    assert not results.errors
    configs = [(r.config["tp"], r.config["mbs"]) for r in results]
    assert len(set(configs)) == 6
    assert all(tp * mbs <= 16 for tp, mbs in configs)
