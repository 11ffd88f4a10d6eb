"""Regular expressions that a backtracking matcher (PCRE in NGINX) can need exponential time for.

It does where a repetition can match one text in two ways: for n such texts in a row there are 2^n ways, all of which
are tried when the rest doesn't fit. In the automaton of the repeated expression (Glushkov's: a state for each character
that is written down) that is a state from which two different paths over the same text lead back to it. (Weber &
Seidl, On the degree of ambiguity of finite automata, 1991: criterion EDA.) The automaton is squared to find it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from re import _constants as c  # type: ignore[attr-defined]
from re import compile as compiled
from typing import Any

import msgspec

REPEATS = (c.MAX_REPEAT, c.MIN_REPEAT)
STATES = 64
"""Characters in a repeated expression that are looked at, at most; more are refused."""
_COPIES = 3
"""So many copies stand for any bounded repetition."""
_OTHER = 128
"""Stands for every character beyond ASCII."""
_EVERY = (1 << (_OTHER + 1)) - 1

Pair = tuple[int, int]


class _Part(msgspec.Struct, frozen=True):
    """A piece of the automaton: whether it matches nothing at all, and where it begins and ends."""

    empty: bool = True
    first: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()


class _Automaton:
    def __init__(self, alternatives: bool) -> None:
        self.alternatives = alternatives
        self.masks: list[int] = []
        self.follow: dict[int, set[int]] = {}
        self.twice = False
        """The same step in two ways: twice nothing, or a character that is next both in a round and in the next one."""

    def state(self, mask: int) -> _Part:
        number = len(self.masks)
        self.masks.append(mask)
        self.follow[number] = set()
        return _Part(False, frozenset({number}), frozenset({number}))

    def link(self, last: Iterable[int], first: Iterable[int]) -> None:
        after = set(first)
        for state in last:
            self.twice |= bool(self.follow[state] & after)
            self.follow[state] |= after

    def sequence(self, tree: Iterable[Any]) -> _Part:
        found = _Part()
        for node in tree:
            if len(self.masks) > STATES:
                break
            found = self.joined(found, self.node(node))
        return found

    def joined(self, left: _Part, right: _Part) -> _Part:
        self.link(left.last, right.first)
        return _Part(
            left.empty and right.empty,
            left.first | right.first if left.empty else left.first,
            right.last | left.last if right.empty else right.last,
        )

    def node(self, node: Any) -> _Part:
        operation, argument = node
        self.twice |= self.alternatives and operation is c.IN and _named_twice(argument)
        if operation in (c.LITERAL, c.NOT_LITERAL, c.ANY, c.IN):
            return self.state(mask_of(node))
        if operation is c.SUBPATTERN:
            return self.sequence(argument[3])
        if operation is c.BRANCH:
            parts = [self.sequence(branch) for branch in argument[1]]
            self.twice |= sum(part.empty for part in parts) > 1
            return _Part(
                any(part.empty for part in parts),
                frozenset().union(*(part.first for part in parts)),
                frozenset().union(*(part.last for part in parts)),
            )
        if operation in REPEATS:
            return self.repeated(*argument)
        return _Part()

    def repeated(self, least: int, most: int, body: Any) -> _Part:
        if most == c.MAXREPEAT:
            found = self.sequence(body)
            self.link(found.last, found.first)
            return _Part(found.empty or least == 0, found.first, found.last)
        needed = min(least, _COPIES)
        copies = [self.sequence(body) for _ in range(needed + min(most - least, _COPIES))]
        for before, after in pairwise(copies):  # x{1,3} is x(x(x)?)?, in one way
            self.link(before.last, after.first)
        self.twice |= any(copy.empty for copy in copies) and (needed == 0 or len(copies) > 1)
        ends = copies[max(needed - 1, 0) :]
        empty = needed == 0 or any(copy.empty for copy in copies)
        return _Part(empty, copies[0].first, frozenset().union(*(copy.last for copy in ends))) if copies else _Part()


def _named_twice(items: list[Any]) -> bool:
    """Whether a set names a character twice: the parser makes one set of `a|[ab]`, which a matcher takes apart."""
    masks = [mask_of((c.IN, [item])) for item in items if item[0] is not c.NEGATE]
    return len(masks) > 1 and sum(mask.bit_count() for mask in masks) > _union(masks).bit_count()


def _union(masks: list[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


def mask_of(node: Any) -> int:
    """The characters that a node for one character takes, as bits."""
    operation, argument = node
    if operation is c.LITERAL:
        return int(1 << min(argument, _OTHER))
    if operation is c.NOT_LITERAL:
        return _EVERY & ~(1 << argument) if argument < _OTHER else _EVERY
    if operation is c.IN:
        taken: int = 0
        negated = False
        for kind, value in argument:
            if kind is c.NEGATE:
                negated = True
            elif kind is c.RANGE:
                taken |= sum(1 << char for char in range(min(value[0], _OTHER), min(value[1], _OTHER) + 1))
            elif kind is c.CATEGORY:
                taken |= _category(str(value))
            else:
                taken |= 1 << min(value, _OTHER)
        return _EVERY & ~(taken & ~(1 << _OTHER)) if negated else taken
    return _EVERY


@cache
def _category(name: str) -> int:
    letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[name.rpartition("_")[2]]
    pattern = compiled(f"\\{letter.upper() if '_NOT_' in name else letter}")
    ascii_part = sum(1 << char for char in range(_OTHER) if pattern.fullmatch(chr(char)))
    return ascii_part | (1 << _OTHER)


def ambiguous(body: Any, *, alternatives: bool) -> bool:
    """Whether the parsed expression `body`, repeated without a bound, can match one text in two ways; also where it is
    too long to tell. `alternatives` tells that somewhere in it something stands beside a bar."""
    automaton = _Automaton(alternatives)
    whole = automaton.repeated(0, c.MAXREPEAT, body)
    if automaton.twice or len(automaton.masks) > STATES:
        return True
    return any(_two_ways_back(automaton, state) for state in whole.first | set(automaton.follow))


def _two_ways_back(automaton: _Automaton, state: int) -> bool:
    """Whether two different paths over the same text lead from the state to itself."""
    there: dict[Pair, set[Pair]] = {}
    waiting = [(state, state)]
    seen = {(state, state)}
    while waiting:
        pair = waiting.pop()
        for after in _steps(automaton, pair):
            there.setdefault(after, set()).add(pair)
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    back, waiting = {(state, state)}, [(state, state)]
    while waiting:
        for before in there.get(waiting.pop(), ()):
            if before not in back:
                back.add(before)
                waiting.append(before)
    return any(left != right for left, right in back)


def _steps(automaton: _Automaton, pair: Pair) -> Iterator[Pair]:
    left, right = pair
    for one in automaton.follow[left]:
        for other in automaton.follow[right]:
            if automaton.masks[one] & automaton.masks[other]:
                yield (one, other) if one <= other else (other, one)
