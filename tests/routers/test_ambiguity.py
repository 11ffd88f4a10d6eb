"""Repeated expressions that match one text in two ways: as told, and as counted."""

from __future__ import annotations

import itertools
from re import _parser  # type: ignore[attr-defined]

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davylamp.routers.ambiguity import STATES, ambiguous

Tree = tuple[str, tuple["Tree", ...]]
"""A letter, `.` for two in a row, `|`, or `?`."""
# `aa(a)?` needs a word of six letters to be read twice, and larger ones longer words than can be tried.
WORDS = ["".join(word) for length in range(1, 7) for word in itertools.product("ab", repeat=length)]
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.sampled_from("ab").map(lambda letter: (letter, ())),
    lambda inner: st.one_of(
        st.tuples(st.just("."), st.tuples(inner, inner)),
        st.tuples(st.just("|"), st.tuples(inner, inner)),
        st.tuples(st.just("?"), st.tuples(inner)),
    ),
    max_leaves=5,
)


def written(tree: Tree) -> str:
    operation, parts = tree
    match operation:
        case ".":
            return "".join(map(written, parts))
        case "|":
            return f"({'|'.join(map(written, parts))})"
        case "?":
            return f"({written(parts[0])})?"
    return operation


def ways(tree: Tree, word: str) -> int:
    """In how many ways the whole word can be read."""
    operation, parts = tree
    match operation:
        case ".":
            return sum(ways(parts[0], word[:at]) * ways(parts[1], word[at:]) for at in range(len(word) + 1))
        case "|":
            return sum(ways(part, word) for part in parts)
        case "?":
            return ways(parts[0], word) + (word == "")
    return int(word == operation)


def rounds(tree: Tree, word: str) -> int:
    """In how many ways the word can be read as one round after the other, none of them empty."""
    if not word:
        return 1
    return sum(ways(tree, word[:at]) * rounds(tree, word[at:]) for at in range(1, len(word) + 1))


@given(TREES)
def test_two_ways_are_found_exactly_where_a_word_can_be_read_twice(tree: Tree) -> None:
    text = written(tree)
    twice = any(rounds(tree, word) > 1 for word in WORDS)
    found = ambiguous(_parser.parse(text), alternatives="|" in text)
    assert found or not twice, text
    every = _every(tree)
    if len([part for part in every if not part[1]]) <= 3 and not any(ways(part, "") > 1 for part in every):
        assert found == twice, text


def _every(tree: Tree) -> list[Tree]:
    return [tree, *(inner for part in tree[1] for inner in _every(part))]


@pytest.mark.parametrize("length", [STATES - 1, STATES + 1])
def test_what_is_too_long_to_tell_counts_as_ambiguous(length: int) -> None:
    text = "".join(chr(ord("a") + number % 26) for number in range(length))
    assert ambiguous(_parser.parse(f"{text}"), alternatives=False) == (length > STATES)
