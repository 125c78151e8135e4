"""The legal set against brute force, its accounting, and its answers about single configs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autotune.errors import BadInput
from autotune.space import Rule, build_legal_set, parse_space
from autotune.space.document import dump_document
from autotune.space.legal_set import _chunks

from .examples import EITHER, LAYOUT, MY_JOB
from .reference import TooLarge, reference_holds, reference_met
from .strategies import VALUES, conditions

TP = "tensor_model_parallel_size"
LEGAL = build_legal_set(parse_space(LAYOUT))


def brute_force(choices, conditions_of, rules):
    """Distinct configs by the slow way: the full product, inactive values folded together."""
    names = list(choices)
    legal = set()
    for point in itertools.product(*choices.values()):
        row = dict.fromkeys(VALUES) | dict(zip(names, point, strict=True))
        settled = dict(row)
        for name in names:  # conditions only look at names before their own
            if name in conditions_of and not reference_holds(conditions_of[name], settled):
                settled[name] = None
        if all(reference_met(rule, settled) for rule in rules):
            legal.add(tuple(settled[name] for name in names))
    return legal


@st.composite
def small_spaces(draw):
    names = draw(st.permutations(list(VALUES)))
    choices = {}
    for name in names:
        offered = [value for value in VALUES[name] if value is not None]
        choices[name] = draw(st.lists(st.sampled_from(offered), min_size=1, unique=True))
    conditions_of = {}
    for position, name in enumerate(names[1:], start=1):
        if draw(st.booleans()):
            text = draw(conditions())
            if not any(other in text for other in names[position:]):
                conditions_of[name] = text
    rules = draw(st.lists(conditions(), max_size=4))
    return choices, conditions_of, rules


@given(small_spaces())
@settings(max_examples=150, deadline=None)
def test_equals_brute_force_with_exact_accounting(spec):
    choices, conditions_of, rules = spec
    parameters = {
        name: {"values": values} | ({"when": conditions_of[name]} if name in conditions_of else {})
        for name, values in choices.items()
    }
    data = {"name": "x", "framework": "command", "parameters": parameters, "constraints": rules}
    try:
        expected = brute_force(choices, conditions_of, rules)
        space = parse_space(dump_document(data))
    except TooLarge:
        assume(False)
    except BadInput as error:
        assume("nested deeper" in str(error) or "longer than" in str(error))
        return
    if not expected:
        with pytest.raises(BadInput, match="no legal config is left"):
            build_legal_set(space)
        return
    legal = build_legal_set(space)
    configs = [legal.config(index) for index in range(len(legal))]
    found = [tuple(config.values.values()) for config in configs]
    key = repr  # 1, 1.0 and True are different values here
    assert sorted(map(key, found)) == sorted(map(key, expected))
    assert legal.raw_points == len(legal) + sum(count for _, count in legal.exclusions)
    for index, config in enumerate(configs):
        assert legal.find(config.values) == index
        assert legal.why_illegal(config.values) is None


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_find_and_why_illegal_agree_on_any_values(data):
    values = {
        name: data.draw(st.sampled_from([None, *choices]), label=name)
        for name, choices in LEGAL.choices.items()
    }
    index, why = LEGAL.find(values), LEGAL.why_illegal(values)
    assert (index is None) == (why is not None)
    if index is not None:
        assert dict(LEGAL.config(index).values) == values


def test_the_space_of_the_issue():
    legal = build_legal_set(parse_space(MY_JOB))
    assert (len(legal), legal.raw_points) == (7, 8)
    assert [(rule.expression, count) for rule, count in legal.exclusions] == [
        ("not (compile and batch == 1)", 1)
    ]
    assert legal.config(legal.baseline).values == {"batch": 1, "compile": False}
    assert legal.why_illegal({"batch": 1, "compile": True}) == (
        "breaks not (compile and batch == 1) (space)"
    )


def test_derived_sizes_and_columns():
    columns = LEGAL.columns()
    dp = 16 // (columns["tensor_model_parallel_size"] * columns["pipeline_model_parallel_size"])
    assert np.array_equal(columns["data_parallel_size"], dp)
    accumulation = 128 // (columns["micro_batch_size"] * dp)
    assert np.array_equal(columns["gradient_accumulation_steps"], accumulation)
    assert np.array_equal(columns["num_micro_batches"], accumulation)
    config = LEGAL.config(LEGAL.baseline)
    assert config.derived == {
        "model_parallel_size": 16,
        "data_parallel_size": 1,
        "gradient_accumulation_steps": 128,
        "num_micro_batches": 128,
    }


def test_columns_show_what_stands_in_for_inactive_parameters():
    codes = dict(zip(LEGAL.names, LEGAL.codes.T, strict=True))
    no_pipeline = LEGAL.column("pipeline_model_parallel_size") == 1
    assert (codes["virtual_pipeline_model_parallel_size"][no_pipeline] == -1).all()
    assert (LEGAL.column("virtual_pipeline_model_parallel_size")[no_pipeline] == 1).all()
    plain = LEGAL.column("recompute_granularity") == "none"
    assert (LEGAL.column("recompute_num_layers")[plain] == 0).all()
    assert (LEGAL.column("recompute_method")[plain] == "").all()
    assert LEGAL.column("sequence_parallel").dtype == bool
    assert (LEGAL.column("num_layers") == 80).all()
    with pytest.raises(BadInput, match="unknown column 'tensor'"):
        LEGAL.column("tensor")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (TP, 3, f"{TP}=3 is not on offer; there are: 1, 2, 4, 8"),
        (TP, True, f"{TP}=true is not on offer"),
        (TP, 1, f"breaks not sequence_parallel or {TP} > 1 (space)"),
        ("tensor", 3, "unknown parameter 'tensor'"),
        ("micro_batch_size", None, "micro_batch_size has no value; there are: 1, 2, 4"),
        ("recompute_granularity", "none", "exists only when recompute_granularity == 'full'"),
        ("pipeline_model_parallel_size", 4, "breaks world_size % model_parallel_size == 0 (built"),
    ],
)
def test_why_illegal(name, value, reason):
    values = dict(LEGAL.config(LEGAL.baseline).values) | {name: value}
    assert reason in LEGAL.why_illegal(values)
    assert LEGAL.find(values) is None


def test_inactive_parameters_may_be_left_out():
    values = {
        "tensor_model_parallel_size": 8,
        "pipeline_model_parallel_size": 1,
        "micro_batch_size": 1,
        "sequence_parallel": False,
        "recompute_granularity": "none",
    }
    index = LEGAL.find(values)
    assert index is not None
    assert LEGAL.config(index).values == dict.fromkeys(LEGAL.names) | values


def test_an_empty_set_says_which_rule_emptied_it():
    space = parse_space(MY_JOB, "f", ["constraints=[batch > 2, not compile, batch < 4]"])
    with pytest.raises(BadInput) as caught:
        build_legal_set(space)
    message = str(caught.value)
    assert "no legal config is left of 8 raw points; the last ones fell to: batch < 4" in message
    assert [line.split()[:1] for line in message.splitlines()[1:]] == [["4"], ["4"]]


def test_a_rule_without_parameters_can_empty_everything():
    space = parse_space(MY_JOB, "f", ["constraints=[world_size >= 8]"])
    with pytest.raises(BadInput, match=r"the last ones fell to: world_size >= 8"):
        build_legal_set(space)
    wide = parse_space(MY_JOB, "f", ["constraints=[world_size >= 8]", "cluster.nodes=8"])
    assert len(build_legal_set(wide)) == 8


def test_a_contract_value_that_is_searched_has_to_be_on_offer():
    asked = ["contract={global_batch_size: 16, search: [global_batch_size]}"]
    asked += ["parameters.global_batch_size.values=[32, 64]"]
    with pytest.raises(BadInput, match=r"contract\.global_batch_size.*=16 is not on offer.*32, 64"):
        build_legal_set(parse_space(MY_JOB, "f", asked))


def test_the_baseline_has_to_be_legal():
    space = parse_space(MY_JOB, "f", ["baseline.compile=true"])
    with pytest.raises(BadInput, match=r"baseline: breaks not \(compile and batch == 1\)"):
        build_legal_set(space)
    missing = parse_space(MY_JOB, "f", ["baseline={batch: 2}"])
    with pytest.raises(BadInput, match="baseline: compile has no value; there are: false, true"):
        build_legal_set(missing)


def test_the_baseline_may_leave_out_what_has_no_alternative():
    space = parse_space(
        MY_JOB,
        "f",
        [
            "parameters.compile.values=[false]",
            "baseline={batch: 2}",
            "contract.search=[precision]",
            "contract.precision=bf16",
            "parameters.precision.values=[fp8, bf16]",
        ],
    )
    legal = build_legal_set(space)
    assert legal.config(legal.baseline).values == {
        "batch": 2,
        "compile": False,
        "precision": "bf16",
    }
    nothing = build_legal_set(parse_space(MY_JOB, "f", ["baseline={}"]))
    assert nothing.baseline == 0


def test_rules_of_a_framework():
    space = parse_space(MY_JOB)
    rules = [
        Rule("batch < 8", "too large for it", "toy"),
        Rule("zero_stage != 3 or offload", "names that this space lacks are inactive", "toy"),
        Rule("recompute_method == 'block'", "whatever kind they have elsewhere", "toy"),
    ]
    legal = build_legal_set(space, rules)
    assert len(legal) == 5
    assert dict(legal.exclusions)[rules[0]] == 2
    assert "breaks batch < 8 (toy: too large for it)" in legal.why_illegal(
        {"batch": 8, "compile": False}
    )
    with pytest.raises(BadInput, match="rule of toy: expression 'batch <'"):
        build_legal_set(space, [Rule("batch <", "", "toy")])
    with pytest.raises(BadInput, match=r"rule of space: .*unknown name"):
        build_legal_set(space, [Rule("batches < 3")])


def test_framework_as_a_parameter_with_conditionals_below_it():
    space = parse_space(EITHER)
    assert space.frameworks == ("deepspeed", "megatron")
    rule = Rule("tensor_model_parallel_size <= 2", "", "megatron")
    legal = build_legal_set(space, [rule.under("framework == 'megatron'")])
    for config in map(legal.config, range(len(legal))):
        deepspeed = config["framework"] == "deepspeed"
        assert (config["zero_stage"] is not None) == deepspeed
        assert (config["tensor_model_parallel_size"] is None) == deepspeed
        assert config["data_parallel_size"] == 4 // (config.get("tensor_model_parallel_size") or 1)
    assert len(legal) == 4 * 4 + 2 * 4


def test_conditions_may_stand_before_what_they_speak_of():
    space = parse_space(EITHER)
    assert list(space.choices) == [
        "zero_stage",
        "tensor_model_parallel_size",
        "framework",
        "micro_batch_size",
    ]
    assert build_legal_set(space).names == tuple(space.choices)


def test_a_space_without_parameters_is_one_config():
    legal = build_legal_set(parse_space("name: one\nframework: command\n"))
    assert (len(legal), legal.raw_points, legal.baseline) == (1, 1, 0)
    assert legal.find({}) == 0


def test_spaces_wider_than_one_integer_key():
    parameters = {f"p{i}": {"values": list(range(50))} for i in range(16)}
    rules = [f"p{i} == p{i + 1}" for i in range(15)]
    data = {"name": "wide", "framework": "command", "parameters": parameters, "constraints": rules}
    legal = build_legal_set(parse_space(dump_document(data)))
    assert len(_chunks([50] * 16)) == 2
    assert legal.raw_points == 50**16
    assert len(legal) == 50
    assert [legal.find(legal.config(i).values) for i in range(50)] == list(range(50))
    assert legal.raw_points == len(legal) + sum(count for _, count in legal.exclusions)


def test_too_many_configs_are_refused_before_memory_is_gone():
    parameters = {f"p{i}": {"range": [1, 300]} for i in range(4)}
    data = {"name": "huge", "framework": "command", "parameters": parameters}
    with pytest.raises(BadInput, match=r"more than 8,000,000 configs by parameter p2"):
        build_legal_set(parse_space(dump_document(data)))


def test_the_order_does_not_depend_on_where_rules_let_it_start():
    plain = build_legal_set(parse_space(LAYOUT))
    again = build_legal_set(parse_space(LAYOUT), [Rule("micro_batch_size > 0")])
    assert np.array_equal(plain.codes, again.codes)
