"""Random expressions and small spaces for the property tests of this folder."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NUMBERS = ("a", "b", "f", "t")
VALUES: dict[str, list[Any]] = {
    "a": [None, 0, 1, 2, 3, 8],
    "b": [None, -3, 1, 4, 7],
    "f": [None, 0.5, 1.5, -2.25, 4.0],
    "t": [None, True, False],
    "s": [None, "none", "full", "block"],
}


def facts() -> st.SearchStrategy[dict[str, Any]]:
    """One config: a value, or None for inactive, for each name."""
    return st.fixed_dictionaries({name: st.sampled_from(v) for name, v in VALUES.items()})


def numbers() -> st.SearchStrategy[str]:
    """Numeric expressions."""
    return _expressions()[0]


def conditions() -> st.SearchStrategy[str]:
    """Boolean expressions."""
    return _expressions()[1]


def _expressions() -> tuple[st.SearchStrategy[str], st.SearchStrategy[str]]:
    number_leaf = st.one_of(
        st.sampled_from(NUMBERS),
        st.integers(-9, 9).map(str),
        st.sampled_from(["0.5", "2.0", "1e1", "True"]),
    )
    text_leaf = st.sampled_from(["s", "'full'", "'none'", "'other'"])
    numbers: st.SearchStrategy[str] = st.deferred(
        lambda: st.one_of(
            number_leaf,
            st.builds(
                "({} {} {})".format,
                numbers,
                st.sampled_from(["+", "-", "*", "/", "//", "%"]),
                numbers,
            ),
            st.builds(
                "({} ** {})".format, numbers, st.sampled_from(["0", "1", "2", "3", "a", "-1"])
            ),
            st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), numbers, numbers),
            st.builds("abs({})".format, numbers),
            st.builds("(-{})".format, numbers),
            st.builds("({} if {} else {})".format, numbers, conditions, numbers),
        )
    )
    comparison = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    member = st.sampled_from(["[1, 2]", "(0, 1.5)", "{3, -3}", "[None, 1]", "[]", "[True]"])
    conditions: st.SearchStrategy[str] = st.deferred(
        lambda: st.one_of(
            st.sampled_from(["t", "True", "False", "a is None", "f is not None", "s == None"]),
            st.builds("({} {} {})".format, numbers, comparison, numbers),
            st.builds("({} {} {} {} {})".format, numbers, comparison, numbers, comparison, numbers),
            st.builds("({} {} {})".format, text_leaf, st.sampled_from(["==", "!="]), text_leaf),
            st.builds("({} {} {})".format, numbers, st.sampled_from(["in", "not in"]), member),
            st.builds("(s in ['full', {}])".format, st.sampled_from(["None", "'x'"])),
            st.builds("(not {})".format, conditions),
            st.builds("({} {} {})".format, conditions, st.sampled_from(["and", "or"]), conditions),
        )
    )
    return numbers, conditions
