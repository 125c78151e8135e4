"""YAML as we accept it: places of keys, the traps of YAML 1.1, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.errors import BadInput
from autotune.space.document import (
    MAX_BYTES,
    MAX_DEPTH,
    dump_document,
    parse_document,
    read_document,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("5e8", 5e8),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("500_000_000", 500_000_000),
        ("0x10", 16),
        ("-0", 0),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("True", True),
        ("false", False),
        ("~", None),
        ("null", None),
        ("none", "none"),
        ("007", "007"),
        ("1:30:00", "1:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("1_", "1_"),
        ("0o17", "0o17"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("=", "="),
        ("nan", "nan"),
    ],
)
def test_plain_scalars(text, value):
    data = parse_document(f"x: {text}", "f").data["x"]
    assert data == value
    assert type(data) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: !!python/object/apply:os.system ['true']", "f:1:4", "tag"),
        ("a: !!str 1", "f:1:4", "tag"),
        ("a: !custom {b: 1}", "f:1:4", "tag"),
        ("!!set {a}: 1", "f:1:1", "plain text"),
        ("a: 1\nb: 2\na: 3", "f:3:1", "'a' stands twice"),
        ("a: {b: 1,\n  'b': 2}", "f:2:3", "'b' stands twice"),
        ("base: &b {x: 1}\nuse:\n  <<: *b", "f:3:3", "merge"),
        ("1: x", "f:1:1", "quotes"),
        ("true: x", "f:1:1", "quotes"),
        ("[a]: x", "f:1:1", "plain text"),
        ("a: .inf", "f:1:4", ".inf"),
        ("a: -.NaN", "f:1:4", "NaN"),
        ("a: 1e999", "f:1:4", "too large"),
        ("a: 9999999999999999999999", "f:1:4", "too large"),
        ("a: " + "9" * 5000, "f:1:4", "too large"),
        ("a: [1, 2\nb: 3", "f:2:", "not valid YAML"),
        ("a:\n\t- 1", "f:2:1", "not valid YAML"),
        ("--- 1\n--- 2", "f:2:1", "second document"),
        ("a: &x [*x]", "f:1:8", "anchor"),
        ("a: *nowhere", "f:1:4", ""),
        ('a: "\\0"', "f:1:4", "NUL"),
        ('a: "\\uD800"', "f:1:", ""),
        ("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "f:1:", "nested deeper"),
    ],
)
def test_refused_with_the_place(text, place, message):
    with pytest.raises(BadInput) as error:
        parse_document(text, "f")
    assert str(error.value).startswith(place)
    assert message in str(error.value)


def test_very_deep_nesting_is_no_crash():
    for text in ("[" * 100_000, "{a: " * 50_000, "- " * 100_000, "? " * 50_000):
        with pytest.raises(BadInput):
            parse_document(text, "f")


def test_alias_bomb_is_refused_before_it_expands():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(BadInput, match=r"f:\d+:\d+: a\d+.*: more than 100000 values"):
        parse_document("\n".join(lines), "f")


def test_reasonable_aliases_give_independent_copies():
    data = parse_document("a: &x {n: [1]}\nb: *x", "f").data
    assert data["b"] == {"n": [1]}
    data["b"]["n"].append(2)
    assert data["a"] == {"n": [1]}


def test_places_of_keys_items_and_missing_children():
    document = parse_document("top:\n  list:\n    - 1\n    - two: 2\n", "f.yaml")
    assert document.where(("top",)) == "f.yaml:1:1"
    assert document.where(("top", "list", 1, "two")) == "f.yaml:4:7"
    assert document.where(("top", "list", 1, "other")) == "f.yaml:4:7"
    assert document.where(("top", "missing")) == "f.yaml:1:1"
    assert str(document.error(("top", "list", 0), "is bad")) == "f.yaml:3:7: top.list.0: is bad"


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        read_document(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(BadInput, match="not UTF-8"):
        read_document(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_bytes(b"# " + b"x" * MAX_BYTES)
    with pytest.raises(BadInput, match="larger than"):
        read_document(tmp_path / "big.yaml")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_document(tmp_path / "bom.yaml").data == {"a": 1}
    (tmp_path / "empty.yaml").write_text("")
    assert read_document(tmp_path / "empty.yaml").data is None


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
TRICKY = st.sampled_from(["1e-5", "on", "no", "007", "~", "", "1:30", "true", "<<", "- a", "0x1f"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**61), 2**61),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    TRICKY,
)


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.one_of(TEXT, TRICKY), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
@settings(max_examples=300, deadline=None)
def test_what_is_dumped_is_read_back(data):
    assert parse_document(dump_document({"data": data}), "f").data == {"data": data}
