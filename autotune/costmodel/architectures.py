"""Transformer shapes of measured tables: from their own columns, a model file, or their size.

Tables say layers and widths but seldom whether the MLP is gated or the embedding tied; the
stated parameter count decides that. This names architectures only, never a config's result.
"""

from __future__ import annotations

import itertools
import json
import re
from functools import cache
from typing import Any

import yaml

from autotune.content import list_content
from autotune.costmodel.counts import total_parameters
from autotune.space.model import ModelShape

Row = dict[str, str]
_GPT_LIKE = ("gpt", "opt", "mpt", "megatron", "turing", "bloom", "neo")


@cache
def _model_files() -> dict[str, ModelShape]:
    found = {}
    for path in list_content("search_spaces", "models/*.yaml"):
        shape = ModelShape(**yaml.safe_load(path.read_text(encoding="utf-8")))
        found[_plain(path.stem)] = shape
        found[_plain(re.sub(r"(\d)\.\d", r"\1", path.stem))] = shape
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def shape_for_row(row: Row) -> tuple[ModelShape, tuple[str, ...]]:
    """(shape, names of the columns that had to be assumed); LookupError when nothing is known."""
    if _whole(row["layers"]) and _whole(row["hidden"]):
        return _from_columns(row)
    key = _plain(row["model"])
    files = _model_files()
    if key in files:
        return files[key], ()
    starts = [name for name in files if key.startswith(name)]
    if starts:
        return files[max(starts, key=len)], ()
    inside = [name for name in files if name in key or key in name]
    if inside:
        return files[max(inside, key=len)], ("model",)
    size = _size_in_billions(row)
    if size is None:
        raise LookupError(f"no model file is called {row['model']!r} and it states no size")
    return shape_of_size(size, row["model"]), ("model",)


def _whole(cell: str) -> int:
    """A cell as a count; 0 where it holds none."""
    try:
        return max(int(float(cell)), 0)
    except (ValueError, OverflowError):
        return 0


def _size_in_billions(row: Row) -> float | None:
    if row["params_b"]:
        return float(row["params_b"])
    match = re.search(r"(\d+(?:\.\d+)?)\s*([bm])\b", row["model"].lower())
    if not match:
        return None
    return float(match.group(1)) * (1.0 if match.group(2) == "b" else 1e-3)


def shape_of_size(billions: float, name: str = "") -> ModelShape:
    """A plausible gated transformer of a given size: heads of 128, hidden = 128 * layers."""
    hidden = round((billions * 1e9 * 128 / 12.0) ** (1 / 3) / 128) * 128 or 128
    layers = max(1, round(billions * 1e9 / (12.0 * hidden**2)))
    return ModelShape(
        name=name, num_layers=layers, hidden_size=hidden, ffn_hidden_size=int(hidden * 8 / 3),
        num_attention_heads=max(hidden // 128, 1), num_query_groups=max(hidden // 128, 1),
        vocab_size=50304,
    )  # fmt: skip


def _stated_options(note: str) -> dict[str, Any]:
    """Megatron's own options where a row's note carries them as ``opts={...}``."""
    match = re.search(r"opts=(\{.*\})", note)
    return dict(json.loads(match.group(1))) if match else {}


def _from_columns(row: Row) -> tuple[ModelShape, tuple[str, ...]]:
    hidden, layers = _whole(row["hidden"]), _whole(row["layers"])
    heads = _whole(row["heads"]) or max(hidden // 128, 1)
    name = row["model"].lower()
    gpt = any(mark in name for mark in _GPT_LIKE)
    assumed = [key for key in ("vocab", "ffn", "kv_heads") if not row[key]]
    vocab = _whole(row["vocab"]) or (51200 if gpt else 32000)
    ffn = _whole(row["ffn"]) or 4 * hidden
    groups = _whole(row["kv_heads"]) or heads
    size = _size_in_billions(row) if row["params_b"] else None

    stated = _stated_options(row["note"])
    experts = int(stated.get("num-experts", 0)) or None

    def build(gated: bool, tied: bool) -> ModelShape:
        return ModelShape(
            num_experts=experts, moe_router_topk=int(stated.get("moe-router-topk", 1)),
            moe_ffn_hidden_size=int(stated.get("moe-ffn-hidden-size", ffn)) if experts else None,
            name=row["model"], num_layers=layers, hidden_size=hidden, ffn_hidden_size=ffn,
            num_attention_heads=heads, num_query_groups=groups, vocab_size=vocab,
            gated_linear_unit=gated, tie_embeddings=tied,
            normalization="LayerNorm" if gpt else "RMSNorm", add_bias_linear=gpt,
            position_embedding_type="learned_absolute" if gpt else "rope",
            max_position_embeddings=(_whole(row["seq_len"]) or 2048) if gpt else 0,
            kv_channels=None if hidden % heads == 0 else max(hidden // heads, 1),
        )  # fmt: skip

    gated_default = bool(row["ffn"]) and not gpt
    if size is None and stated:
        tied = not stated.get("untie-embeddings-and-output-weights", False)
        return build(bool(stated.get("swiglu", False)), tied), tuple(assumed)
    if size is None:
        return build(gated_default, gpt), (*assumed, "gated", "tied")
    options = itertools.product((gated_default, not gated_default), (gpt, not gpt))
    best = min(
        (build(g, t) for g, t in options), key=lambda s: abs(total_parameters(s) / 1e9 - size)
    )
    return best, tuple(assumed)
