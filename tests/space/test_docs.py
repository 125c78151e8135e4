"""docs/spaces.md: its examples load, and its tables are what the models say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from autotune.space import Expression, build_legal_set, parse_space
from autotune.space.reference import json_schema, reference_tables, undescribed

from .examples import EITHER, LAYOUT, MY_JOB

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "spaces.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


def test_there_are_examples_to_check():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split("\n")[0])
def test_examples_load_and_their_baselines_are_legal(text):
    legal = build_legal_set(parse_space(text))
    assert len(legal) > 1


def test_tables_are_current():
    found = re.search(r"<!-- reference: begin -->\n(.*)\n<!-- reference: end -->", PAGE, re.DOTALL)
    assert found is not None
    assert found.group(1) == reference_tables(), (
        "docs/spaces.md is stale: put the output of `python -m autotune.space.reference` "
        "between its reference marks"
    )


def test_every_key_says_what_it_means():
    assert list(undescribed()) == []


@pytest.mark.parametrize("text", [*EXAMPLES, MY_JOB, LAYOUT, EITHER])
def test_json_schema_accepts_what_the_loader_accepts(text):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(yaml.safe_load(text), json_schema())


def test_json_schema_refuses_unknown_keys():
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "budgte": {}}, json_schema())


def test_names_and_words_of_the_language_table_exist():
    space = parse_space(LAYOUT)
    rows = [
        line for line in PAGE.splitlines() if re.match(r"\| (contract|cluster|model|deriv)", line)
    ]
    assert len(rows) == 4
    for name in re.findall(r"`(\w+)`", "\n".join(rows)):
        assert name in space.names.known
    for text in (
        "1 if True else 2",
        "min(1, 2) in [1] and not False",
        "abs(1) is None or 1 < 2 <= 8",
    ):
        Expression.parse(text)
