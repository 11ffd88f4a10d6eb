"""Sharing a weight in somebody else's list, and remembering how the list was: in an annotation that is written in the
same patch as the list, so that no crash comes between the two."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from davylamp.api.types import Match
from davylamp.core import names

T = TypeVar("T")


class Changed(msgspec.Struct, frozen=True):
    """One list of backends that we wrote, and how it was. Found again by its content: rules are moved by others."""

    wrote: list[dict[str, Any]]
    was: list[dict[str, Any]]


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What we did to a route for one release."""

    changed: tuple[Changed, ...] = ()
    added: tuple[list[dict[str, Any]], ...] = ()
    """What the rules that we added ask for; we know them by it."""
    match: tuple[Match, ...] = ()
    """The matches that they are for."""
    mirrored: bool = False
    """Whether rules got a filter of ours that copies requests."""


def recorded(annotations: Mapping[str, str], service: str) -> Record | None:
    """What is remembered for the release of `service`; None for nothing, or nothing that can be read."""
    return remembered(annotations, service, Record)


def remembered(annotations: Mapping[str, str], service: str, kind: type[T]) -> T | None:
    """The same for a router that remembers something of its own `kind`."""
    try:
        return msgspec.convert(_all(annotations)[service], kind)
    except (KeyError, msgspec.ValidationError):
        return None


def annotation(annotations: Mapping[str, str], service: str, record: object | None) -> str | None:
    """The annotation's new value, None for no annotation. What is remembered for other Services stays."""
    others = {name: content for name, content in _all(annotations).items() if name != service}
    content = others | ({service: msgspec.to_builtins(record)} if record is not None else {})
    return msgspec.json.encode(content, order="deterministic").decode() if content else None


def _all(annotations: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(annotations.get(names.ROUTED, "{}"))
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def apportioned(weights: Sequence[int], shared: Collection[int], percent: int, most: int) -> list[tuple[int, int]]:
    """For each of `weights` what stays and what goes to the canary: `percent` of those whose index is in `shared`.

    Exact: the other ones keep their share of the whole, so all are scaled up where that is needed. A weight of 0
    stays 0, and the sum is 0 only where it was. Raises ValueError, for people, where a weight would be above `most`.
    """
    alone = [index for index, weight in enumerate(weights) if weight]
    if len(alone) == 1:
        weights = [1 if index in alone else 0 for index in range(len(weights))]
    parts = [
        (weight * (100 - percent), weight * percent) if index in shared else (weight * 100, 0)
        for index, weight in enumerate(weights)
    ]
    common = math.gcd(*(part for pair in parts for part in pair)) or 1
    if len(alone) == 1:
        common = 1  # 50 and 50 say more to a person than 1 and 1
    found = [(stays // common, goes // common) for stays, goes in parts]
    highest = max((part for pair in found for part in pair), default=0)
    if highest > most:
        given = ", ".join(map(str, weights))
        raise ValueError(
            f"{percent} % of the weights {given} can't be divided exactly (it takes {highest}, and at most {most} "
            "is allowed): make them smaller, for example percentages"
        )
    return found
