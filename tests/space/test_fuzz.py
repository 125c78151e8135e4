"""Hostile and random input: no crash, no hang, nothing but `BadInput`."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .examples import EITHER, LAYOUT, MY_JOB
from .fuzz_targets import fuzz_expression, fuzz_loader, fuzz_override

WORDS_OF_EXPRESSIONS = """
a b s 1 0 -1 2.5 'full' None True False ( ) [ ] , and or not in is if else + - * / // % ** == !=
< <= > >= min max abs . : lambda import = {} {{ f'' 1e308 9e99
"""
WORDS_OF_SPACES = """
name: framework: parameters: constraints: values: when: contract: files: env: {} [] null &a *a
!!python/object:x <<: ? | > --- ... # ' " , { } [ ] - : true .inf 1e9 9**9
"""
TOKENS = tuple(WORDS_OF_EXPRESSIONS.split())
PIECES = (*WORDS_OF_SPACES.split(), "\n", "\n  ", "\n    ", "\t", "\0", "\x85")
KEYS = ("parameters", "batch", "values", "trial", "steps", "constraints", "0", "name")
VALUES = ("1", "[1]", "{}", "null", "x", "!!x", "{values: [1]}", "[", "*a")


def joined(words, glue, longest):
    """Random sequences of words as one text."""
    return st.lists(st.sampled_from(words), max_size=longest).map(glue.join)


@given(st.one_of(st.text(max_size=80), joined(TOKENS, " ", 25)))
@settings(max_examples=500, deadline=None)
def test_expressions(text):
    fuzz_expression(text)


@given(st.one_of(st.binary(max_size=200), joined(PIECES, "", 40)))
@settings(max_examples=400, deadline=None)
def test_loader(data):
    fuzz_loader(data if isinstance(data, bytes) else data.encode())


@given(st.sampled_from([MY_JOB, LAYOUT, EITHER]), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_mutated_spaces(text, rng):
    fuzz_loader(mutate(text.encode(), rng))


@given(
    st.one_of(
        st.text(max_size=40),
        st.builds("{}={}".format, joined(KEYS, ".", 4), st.sampled_from(VALUES)),
    )
)
@settings(max_examples=300, deadline=None)
def test_overrides(override):
    fuzz_override(override, MY_JOB)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A few lines, words or bytes of a sound space swapped, doubled, cut or replaced."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        stop = min(len(data), start + rng.choice([0, 1, 1, 3, 20]))
        piece = rng.choice(
            [
                b"",
                data[start:stop] * 2,
                rng.choice(PIECES).encode(),
                rng.choice(TOKENS).encode(),
                bytes([rng.randrange(256)]),
            ]
        )
        data = data[:start] + piece + data[stop:]
    return data


@pytest.mark.parametrize("text", [MY_JOB, LAYOUT, EITHER])
def test_the_targets_accept_what_is_sound(text):
    assert fuzz_loader(text.encode())
    assert fuzz_override("trial.steps=3", text)
    assert fuzz_expression("a + 1 > 2 and s == 'full'")
