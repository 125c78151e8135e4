"""What a space has to satisfy beyond the type of each key: names, expressions, the contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

from autotune.config import ParameterValue
from autotune.errors import BadInput
from autotune.space.contract import CONTRACT_KEYS, Precision
from autotune.space.document import KeyPath
from autotune.space.expression import FUNCTIONS, KEYWORDS, Expression
from autotune.space.names import DERIVED, PARALLEL_SIZES, Names, Rows, show
from autotune.space.search_space import SearchSpace

Problem = tuple[KeyPath, str]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def problems(space: SearchSpace) -> Iterator[Problem]:
    """Every problem with the key path where it stands; none for a sound space."""
    found = [*_parameter_names(space), *_domains(space), *_workload(space), *_contract(space)]
    yield from found
    if not found:
        yield from _expressions(space)
        yield from _baseline(space)


def _parameter_names(space: SearchSpace) -> Iterator[Problem]:
    reserved = set(space.constants) - set(CONTRACT_KEYS)
    for name in space.parameters:
        path: KeyPath = ("parameters", name)
        if not _IDENTIFIER.fullmatch(name) or name in KEYWORDS | FUNCTIONS:
            yield path, "a parameter's name is made of letters, digits and _ (and no keyword)"
        elif name in reserved:
            yield path, f"{name} belongs to the cluster or the model and cannot be searched"
        elif name in ("model_parallel_size", "data_parallel_size"):
            yield path, f"{name} is derived from the other sizes: {DERIVED[name].text}"
    batches = "global_batch_size" in space.parameters or space.contract.global_batch_size
    if batches and "micro_batch_size" in space.parameters:
        for name in ("gradient_accumulation_steps", "num_micro_batches"):
            if name in space.parameters:
                yield ("parameters", name), f"{name} is derived: {DERIVED[name].text}"


def _domains(space: SearchSpace) -> Iterator[Problem]:
    sizes: dict[str, ParameterValue] = {
        name: v for name, v in space.constants.items() if name not in space.parameters
    }
    for name, parameter in space.parameters.items():
        try:
            choices = parameter.choices(sizes)
        except BadInput as error:
            yield ("parameters", name), str(error)
            continue
        wrong = [value for value in choices if not _fits(name, value)]
        if wrong:
            kind = ", ".join(get_args(Precision)) if name == "precision" else "positive integers"
            yield ("parameters", name), f"values have to be {kind}, not {show(wrong[0])}"


def _fits(name: str, value: ParameterValue) -> bool:
    """Whether a value is of the kind that its name stands for everywhere."""
    if name in (*PARALLEL_SIZES, "micro_batch_size", "global_batch_size", "seq_length"):
        return type(value) is int and value > 0
    return name != "precision" or value in get_args(Precision)


def _workload(space: SearchSpace) -> Iterator[Problem]:
    if space.framework is None and "framework" not in space.parameters:
        yield ("framework",), "is missing: name one, or make `framework` a parameter"
    if space.framework is not None and "framework" in space.parameters:
        yield ("framework",), "is given and searched as well; leave out one of the two"
    if space.metric is not None:
        if (space.metric.pattern is None) == (space.metric.format is None):
            yield ("metric",), "needs exactly one of pattern, format"
        try:
            re.compile(space.metric.pattern or "")
        except (re.error, OverflowError, RecursionError) as error:
            yield ("metric", "pattern"), f"not a regular expression: {error}"
    for target in space.files:
        parts = target.replace("\\", "/").split("/")
        if target.startswith(("/", "~")) or ".." in parts or not target.strip("./"):
            yield ("files", target), "has to lie inside the trial's folder (relative, without ..)"
    if (space.objective.metric == "time_to_target_s") != (space.objective.target is not None):
        yield ("objective",), "metric time_to_target_s and target belong together"


def _contract(space: SearchSpace) -> Iterator[Problem]:
    for key in CONTRACT_KEYS:
        opted_in = key in space.contract.search
        if key in space.parameters and not opted_in:
            yield (
                ("parameters", key),
                f"{key} is part of the contract: it changes what is learned and is not searched; "
                f"opt in with `contract: {{search: [{key}]}}`",
            )
        if opted_in and key not in space.parameters:
            yield ("contract", "search"), f"{key} is opted in, but there is no parameter {key}"


def _expressions(space: SearchSpace) -> Iterator[Problem]:
    texts: list[tuple[KeyPath, str]] = []
    for name, parameter in space.parameters.items():
        if parameter.when is not None:
            texts.append((("parameters", name, "when"), parameter.when))
    for index, rule in enumerate(space.rules):
        texts.append((("constraints", index), rule.expression))
    for path, text in texts:
        try:
            check_expression(text, space.names)
        except BadInput as error:
            yield path, str(error)
    try:
        _ = space.order
    except BadInput as error:
        yield ("parameters",), str(error)


def check_expression(text: str, names: Names, lenient: bool = False) -> Expression:
    """Parse, and try on a row of first choices so that names and types are checked too."""
    expression = Expression.parse(text)
    first = {name: choices[0] for name, choices in names.choices.items()}
    expression.met(Rows(names, names.encode(first), lenient))
    return expression


def _baseline(space: SearchSpace) -> Iterator[Problem]:
    for name, value in space.baseline.items():
        if name not in space.choices:
            yield ("baseline", name), str(BadInput.unknown("parameter", name, space.choices))
        elif space.names.code(name, value) is None:
            yield ("baseline", name), space.names.not_offered(name, value)
