"""The fine-tuning data: what is learned from must not depend on how it is cut up."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
RUNNERS = Path(__file__).resolve().parents[2] / "runners"
sys.path.insert(0, str(RUNNERS))

from sft_data import compose  # noqa: E402
from sft_data.instructions import (  # noqa: E402
    IGNORED,
    HashTokenizer,
    SampleOrder,
    collate,
    load_examples,
    replica_indices,
)
from sft_data.models import build_model  # noqa: E402

ALPACA = RUNNERS / "sft_data" / "alpaca.jsonl"


def test_shipped_sets_are_what_the_composer_writes() -> None:
    for name, text in compose.files().items():
        assert (RUNNERS / "sft_data" / name).read_text() == text


def test_both_forms_are_read_and_lengths_vary() -> None:
    for name in ("alpaca.jsonl", "dolly.jsonl"):
        examples = load_examples(RUNNERS / "sft_data" / name, HashTokenizer(512), 512)
        lengths = sorted(len(example.ids) for example in examples)
        assert len(examples) == compose.RECORDS
        assert lengths[-1] > 4 * lengths[len(lengths) // 4]


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_every_layout_trains_on_the_same_samples(replicas: int, micro_batch_size: int) -> None:
    order = SampleOrder(count=50, seed=7)
    for step in range(8):
        wanted = order.step(step, 16)
        dealt = [
            index
            for replica in range(replicas)
            for micro in replica_indices(wanted, replica, replicas, micro_batch_size)
            for index in micro
        ]
        assert sorted(dealt) == sorted(wanted)


def test_order_covers_each_epoch_once_and_depends_on_the_seed() -> None:
    order = SampleOrder(count=48, seed=1)
    epoch = [index for step in range(3) for index in order.step(step, 16)]
    assert sorted(epoch) == list(range(48))
    assert SampleOrder(48, 1).step(5, 16) == order.step(5, 16)
    assert SampleOrder(48, 2).step(0, 16) != order.step(0, 16)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(SystemExit, match="not a multiple"):
        replica_indices(list(range(10)), 0, 2, 4)


def test_prompt_and_padding_are_masked() -> None:
    examples = load_examples(ALPACA, HashTokenizer(512), 512)[:6]
    batch = collate(examples, pad_id=0)
    length = batch["input_ids"].shape[1]
    assert length % 8 == 0
    for row, example in enumerate(examples):
        labels = batch["labels"][row]
        assert int((labels != IGNORED).sum()) == example.targets
        assert bool((labels[: example.prompt_length] == IGNORED).all())
        assert int(batch["attention_mask"][row].sum()) == len(example.ids)
        answer = slice(example.prompt_length, len(example.ids))
        assert torch.equal(labels[answer], batch["input_ids"][row][answer])
    assert collate(examples, pad_id=0, fixed_length=512)["input_ids"].shape[1] == 512


def test_an_unknown_shape_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    good = json.dumps({"instruction": "a", "output": "b"})
    path.write_text(good + "\n" + json.dumps({"question": "a"}) + "\n")
    with pytest.raises(SystemExit, match=r"data.jsonl:2: .*question"):
        load_examples(path, HashTokenizer(64), 32)


def test_examples_whose_answer_is_cut_away_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"instruction": "word " * 60, "output": "b"}) + "\n")
    with pytest.raises(SystemExit, match="no example keeps an answer"):
        load_examples(path, HashTokenizer(64), 32)


def test_drawn_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama", **sizes, **heads}))
    models = []
    for seed in (3, 3, 4):
        torch.rand(seed)
        models.append(dict(build_model(str(path), torch.bfloat16, seed).named_parameters()))
    first, again, other = models
    assert all(weights.device.type == "cpu" for weights in first.values())
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(first[name], other[name])
