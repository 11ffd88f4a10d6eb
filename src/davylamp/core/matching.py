"""What a match means: whether a request is one of those that always reach the canary, and how people call it.

Routers translate matches into their own rules; this is what each translation has to mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from davylamp.api.types import Match, TextMatch
from davylamp.core.world import Exposure


class Request(msgspec.Struct, frozen=True):
    """What a match can look at. `query` has the first value of each parameter; `source_labels` are those of the pod
    that the request comes from."""

    headers: Mapping[str, str] = {}
    cookies: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    source_labels: Mapping[str, str] = {}


def chosen(matches: tuple[Match, ...], request: Request) -> bool:
    """True for a request that any of `matches` matches."""
    return any(_holds(match, request) for match in matches)


def conditions(match: Match) -> Iterator[tuple[str, TextMatch]]:
    """What a match says of texts, with the fields' names: `header`, `cookie`, `query`."""
    for field in ("header", "cookie", "query"):
        given: TextMatch | None = getattr(match, field)
        if given is not None:
            yield field, given


def _holds(match: Match, request: Request) -> bool:
    found = {
        "header": {name.lower(): value for name, value in request.headers.items()},
        "cookie": request.cookies,
        "query": request.query,
    }
    for field, wanted in conditions(match):
        name = wanted.name.lower() if field == "header" else wanted.name
        if not value_holds(wanted, found[field].get(name)):
            return False
    return (match.source_labels or {}).items() <= request.source_labels.items()


def value_holds(wanted: TextMatch, value: str | None) -> bool:
    """Whether a header, cookie or parameter with this value (None: it isn't there) is what is wanted."""
    if value is None:
        return False
    if wanted.exact is not None:
        return value == wanted.exact
    if wanted.prefix is not None:
        return value.startswith(wanted.prefix)
    return re.fullmatch(wanted.regex, value) is not None if wanted.regex is not None else wanted.present


def words(matches: tuple[Match, ...]) -> str:
    """For people: `header X-Canary: true or cookie canary=true`."""
    return " or ".join(" and ".join(_parts(match)) for match in matches)


def exposed(exposure: Exposure) -> str:
    """An exposure for people: `10 %`, `testers (header X-Canary: true)`, `10 % and testers (…), 5 % mirrored`."""
    parts = [f"{exposure.weight} %"] if exposure.weight or not (exposure.match or exposure.mirror) else []
    parts += [f"testers ({words(exposure.match)})"] if exposure.match else []
    mirrored = f"{exposure.mirror} % mirrored" if exposure.mirror else ""
    return ", ".join(filter(None, (" and ".join(parts), mirrored)))


def _parts(match: Match) -> Iterator[str]:
    for field, wanted in conditions(match):
        between = ": " if field == "header" else "="
        yield f"{field} {wanted.name}" + (f"{between}{_value(wanted)}" if not wanted.present else "")
    if match.source_labels:
        yield "pods with " + ", ".join(f"{key}={value}" for key, value in sorted(match.source_labels.items()))


def _value(wanted: TextMatch) -> str:
    if wanted.exact is not None:
        return wanted.exact
    return f"{wanted.prefix}…" if wanted.prefix is not None else f"/{wanted.regex}/"
