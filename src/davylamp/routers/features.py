"""What a router can do, as data: what a policy asks for beyond it is refused before anything is written, and
docs/routers.md shows the same as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from davylamp.api.types import Match, TextMatch
from davylamp.core.matching import conditions
from davylamp.core.world import Exposure, Refusal

Operator = Literal["exact", "prefix", "regex", "present"]
ALL: frozenset[Operator] = frozenset({"exact", "prefix", "regex", "present"})
NONE: frozenset[Operator] = frozenset()


class Features(msgspec.Struct, frozen=True):
    """What one router can do. Operators are those of a `TextMatch`."""

    router: str
    """For people, for example `nginx annotations`."""
    header: frozenset[Operator] = NONE
    cookie: frozenset[Operator] = NONE
    query: frozenset[Operator] = NONE
    source_labels: bool = False
    several_conditions: bool = False
    """Several conditions in one entry of `match`, all of which must hold."""
    several_names: bool = False
    """Entries with different headers, or a header's and a cookie's value, in one `match`."""
    mirror: Literal["", "all", "percent"] = ""
    opt_out: bool = False
    """The value `never` of a header or cookie that is matched by the value `always` keeps a client on stable."""
    notes: tuple[str, ...] = ()
    """What else is different here, for docs/routers.md."""


def operator_of(wanted: TextMatch) -> Operator:
    """The one that is set (a policy with none or several is refused before)."""
    if wanted.exact is not None:
        return "exact"
    if wanted.prefix is not None:
        return "prefix"
    return "regex" if wanted.regex is not None else "present"


def refusals(features: Features, exposure: Exposure) -> Iterator[Refusal]:
    """What of `exposure` these features don't cover."""
    for index, match in enumerate(exposure.match):
        yield from _match(features, index, match)
    if exposure.mirror and not features.mirror:
        yield Refusal(f"{features.router} can't mirror: leave mirror out, or split by {_who('mirror')}", field="mirror")
    elif exposure.mirror not in (0, 100) and features.mirror == "all":
        text = f"{features.router} mirrors all requests or none: mirror 100, or split by {_who('percent')}"
        yield Refusal(text, field="mirror")


def _match(features: Features, index: int, match: Match) -> Iterator[Refusal]:
    given = list(conditions(match))
    for field, wanted in given:
        operator = operator_of(wanted)
        can: frozenset[Operator] = getattr(features, field)
        if operator not in can:
            instead = f"use {' or '.join(sorted(can))}" if can else f"split by {_who(field)}"
            text = f"{features.router} can't match a {_NAMES[field]} by {operator}: {instead}"
            yield Refusal(text, index, f"{field}.{operator}")
    if match.source_labels is not None and not features.source_labels:
        text = f"{features.router} can't see where a request comes from: split by {_who('source_labels')}"
        yield Refusal(text, index, "sourceLabels")
    if len(given) + (match.source_labels is not None) > 1 and not features.several_conditions:
        text = f"{features.router} can't ask for several things at once: split by {_who('several_conditions')}"
        yield Refusal(text, index)


_NAMES = {"header": "header", "cookie": "cookie", "query": "query parameter"}
_WHO = {
    "mirror": "an HTTPRoute of an implementation that can, or a VirtualService",
    "percent": "a VirtualService",
    "header": "an Ingress, an HTTPRoute or a VirtualService",
    "cookie": "an Ingress, an HTTPRoute or a VirtualService",
    "query": "an HTTPRoute or a VirtualService",
    "source_labels": "a VirtualService",
    "several_conditions": "an HTTPRoute or a VirtualService",
}


def _who(feature: str) -> str:
    return _WHO[feature]
