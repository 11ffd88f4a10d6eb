"""An exposure's matches as conditions of an Istio VirtualService, and back.

Read from Istio's `pilot/pkg/networking/core/route/route.go`: a StringMatch without a value asks for presence, a regex
is RE2 and must match the whole value, header names are compared in lower case. All conditions of one match entry must
hold, any entry may. An entry that names `gateways` has its `sourceLabels` ignored (`sourceMatchHTTP`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from davylamp.api.types import Match, TextMatch
from davylamp.core.matching import conditions
from davylamp.core.world import Exposure, Refusal
from davylamp.routers.features import ALL, Features, refusals
from davylamp.routers.patterns import cookie_pattern, runs_on

Json = dict[str, Any]
MESH = "mesh"

FEATURES = Features(
    router="a VirtualService",
    header=ALL,
    cookie=ALL,
    query=ALL,
    source_labels=True,
    several_conditions=True,
    several_names=True,
    mirror="percent",
    notes=(
        "A cookie is matched by a regular expression on the Cookie header; its own regex may not run on into the next "
        "cookie.",
        "A query parameter is compared as it stands in the URL, with its percent signs.",
        "sourceLabels need `mesh` among the VirtualService's gateways.",
        "TCP and TLS routes get the weight only; header, cookie, query and mirror are refused where there is no "
        "other route.",
    ),
)


class Clash(Exception):
    """Two conditions on one header or parameter that one StringMatch can't say together."""


def refused(exposure: Exposure) -> Iterator[Refusal]:
    """What of an exposure no VirtualService can say."""
    yield from refusals(FEATURES, exposure)
    for index, match in enumerate(exposure.match):
        if match.cookie is not None and (text := runs_on(match.cookie)):
            yield Refusal(text, index, "cookie.regex")


def entries(match: Match, existing: list[Json]) -> list[Json]:
    """The entries of an HTTP route's `match` (none: every request) with the conditions of `match` added to each.

    Entries that can't hold any more are left out; an empty list means that no request is left. Raises Clash, naming
    what is asked twice.
    """
    found = (_entry(match, entry) for entry in existing or [{}])
    return [entry for entry in found if entry is not None]


def _entry(match: Match, entry: Json) -> Json | None:
    result = dict(entry)
    for field, wanted in conditions(match):
        key, name = ("queryParams", wanted.name) if field == "query" else ("headers", _header_name(field, wanted))
        given: Json = dict(result.get(key) or {})
        name = next((k for k in given if key == "headers" and k.lower() == name), name)
        mine = _string_match(field, wanted)
        both = _both(mine, given[name], f"{field} {wanted.name}") if name in given else mine
        if both is None:
            return None
        result[key] = {**given, name: both}
    return _from(match.source_labels, result) if match.source_labels else result


def _from(labels: dict[str, str], entry: Json) -> Json | None:
    """Only from pods with these labels. Istio ignores sourceLabels beside gateways, and they mean sidecars."""
    gateways = entry.get("gateways")
    if gateways and MESH not in gateways:
        return None
    given = _labels(entry)
    if any(given.get(key, value) != value for key, value in labels.items()):
        return None
    kept = {key: value for key, value in entry.items() if key != "gateways"}
    return {**kept, "sourceLabels": {**given, **labels}}


def _labels(entry: Json) -> Json:
    """Of the pods that an entry is about."""
    return {} if entry.get("gateways") else entry.get("sourceLabels") or {}


def _header_name(field: str, wanted: TextMatch) -> str:
    return "cookie" if field == "cookie" else wanted.name.lower()


def _string_match(field: str, wanted: TextMatch) -> Json:
    if field == "cookie":
        return {"regex": cookie_pattern(wanted)}
    if wanted.exact is not None:
        return {"exact": wanted.exact}
    if wanted.prefix is not None:
        return {"prefix": wanted.prefix}
    return {"regex": wanted.regex} if wanted.regex is not None else {}


def _both(mine: Json, theirs: Json, what: str) -> Json | None:
    """One StringMatch that holds where both do; None where none can."""
    if mine == theirs or is_present(mine):
        return theirs
    if is_present(theirs):
        return mine
    for exact, other in ((mine, theirs), (theirs, mine)):
        if "exact" in exact:
            return exact if holds(other, str(exact["exact"])) else None
    if "prefix" in mine and "prefix" in theirs:
        short, long = sorted((str(mine["prefix"]), str(theirs["prefix"])), key=len)
        return {"prefix": long} if long.startswith(short) else None
    raise Clash(what)


# --- what conditions mean ---


def is_present(wanted: Json) -> bool:
    """Whether any value will do (`canBeConvertedToPresentMatch`)."""
    return not wanted or wanted.get("regex") == "*"


def holds(wanted: Json, value: str | None, *, ignore_case: bool = False) -> bool:
    """Whether a StringMatch holds for a value (None: it isn't there). `ignore_case` is for a URI's exact and prefix."""
    if value is None:
        return False
    if is_present(wanted):
        return True
    if "regex" in wanted:
        return re.fullmatch(str(wanted["regex"]), value) is not None
    way = "exact" if "exact" in wanted else "prefix"
    text = str(wanted.get(way, ""))
    if ignore_case:
        text, value = text.lower(), value.lower()
    return value == text if way == "exact" else value.startswith(text)


def read_back(entry: Json, original: list[Json]) -> Match | None:
    """The match that was added to one of `original` (none: to no condition at all) and gave `entry`; None where it
    has none of ours, or not only what we write."""
    plain = [{**base, "sourceLabels": _labels(base)} for base in original or [{}]]
    bases = [base for base in plain if _within(base, entry)]
    base = max(bases, key=lambda b: len(str(b)), default=None)
    if base is None:
        return None
    headers = _added(entry, base, "headers")
    cookie = headers.pop("cookie", None)
    query, labels = _added(entry, base, "queryParams"), _added(entry, base, "sourceLabels")
    if len(headers) > 1 or len(query) > 1 or not (headers or cookie or query or labels):
        return None
    return Match(
        header=_text_match(*next(iter(headers.items()))) if headers else None,
        cookie=_read_cookie(str(cookie.get("regex", ""))) if cookie else None,
        query=_text_match(*next(iter(query.items()))) if query else None,
        source_labels=labels or None,
    )


def _within(base: Json, entry: Json) -> bool:
    """Whether `entry` has every condition of `base` (its gateways may be gone, see `_from`)."""
    for key, value in base.items():
        if key in ("headers", "queryParams", "sourceLabels"):
            if not set(value) <= set(entry.get(key) or {}):
                return False
        elif key != "gateways" and entry.get(key) != value:
            return False
    return True


def _added(entry: Json, base: Json, key: str) -> Json:
    before = base.get(key) or {}
    return {name: value for name, value in (entry.get(key) or {}).items() if before.get(name) != value}


def _text_match(name: str, found: Json) -> TextMatch:
    return TextMatch(name, found.get("exact"), found.get("prefix"), found.get("regex"), present=is_present(found))


_COOKIE = re.compile(r"\^\(\.\*;\\s\*\)\?(?P<name>[^=]+)=(?P<value>.*)\(\\s\*;\.\*\)\?\$")
"""What `patterns.cookie_pattern` makes."""


def _read_cookie(pattern: str) -> TextMatch | None:
    found = _COOKIE.fullmatch(pattern)
    if found is None:
        return None
    name, value = _plain(found["name"]), found["value"]
    if value == "[^;]*":
        return TextMatch(name, present=True)
    if value.endswith("[^;]*"):
        return TextMatch(name, prefix=_plain(value.removesuffix("[^;]*")))
    if value.startswith("(") and value.endswith(")"):
        return TextMatch(name, regex=value[1:-1])
    return TextMatch(name, exact=_plain(value))


def _plain(text: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), text)
