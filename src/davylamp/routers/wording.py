"""Lists and likely misspellings in messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_COMPARED = 50
"""Comparing spellings is slow, so in a large namespace only names that begin alike are compared."""


def some(names: Iterable[str], limit: int = 5) -> str:
    """`a, b, c and 4 more`, in the order of the alphabet."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:limit])
    return f"{shown} and {len(ordered) - limit} more" if len(ordered) > limit else shown


def closest(name: str, names: Iterable[str]) -> list[str]:
    """Up to three of `names` that `name` may be a misspelling of, the likeliest first."""
    known = sorted(names)
    if len(known) > _COMPARED:
        known = [other for other in known if other[:2] == name[:2]][:_COMPARED]
    return difflib.get_close_matches(name, known, n=3)


def instead(name: str, names: Iterable[str]) -> str:
    """What to write instead of `name`: `did you mean web?`, or what there is."""
    known = list(names)
    near = closest(name, known)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are: {some(known)}" if known else "there is none at all"


def labels(pairs: dict[str, str]) -> str:
    """`app=web, tier=frontend`"""
    return ", ".join(f"{key}={value}" for key, value in sorted(pairs.items()))
