"""An exposure's matches as ingress-nginx's canary annotations, and back.

There is one slot for a header, one for a cookie, and the weight: header first, then cookie, then weight
(`decision`). The cookie's slot knows only the values always and never, so a cookie's VALUE takes the header's slot, as
a pattern on the Cookie header. Patterns are PCRE in ingress-nginx and RE2 in Traefik, neither of them anchored, and
may only have the characters of `decision._PATTERN`: no space, no semicolon, no comma, no `!`. What has none of these
is written so that both read it alike: `\\x3b` for a semicolon, `\\s` for a space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from davylamp.api.types import Match, TextMatch
from davylamp.core.matching import conditions
from davylamp.core.world import Exposure, Refusal
from davylamp.routers.decision import (
    COOKIE,
    HEADER,
    HEADER_PATTERN,
    HEADER_VALUE,
    WEIGHT,
    CanaryConfig,
    is_basic,
    is_pattern,
)
from davylamp.routers.features import ALL, Features, refusals

FEATURES = Features(
    router="nginx annotations",
    header=ALL,
    cookie=ALL,
    opt_out=True,
    notes=(
        "One header OR one cookie's value, and beside it a cookie with the value `always`; weight with either or both.",
        "`header: {exact: always}` alone becomes canary-by-header without a value, and `cookie: {exact: always}` "
        "becomes canary-by-cookie: the value `never` then keeps a client on stable whatever the weight.",
        "A cookie's value is matched by a pattern on the Cookie header.",
        "Higress ignores the weight for requests that have the header or cookie at all, and knows no `never`.",
    ),
)
WAYS_OUT = (
    "make it the cookie's value `always` (which has a slot of its own), or split by an HTTPRoute or a VirtualService"
)


class Rules(msgspec.Struct, frozen=True):
    """What goes into the two slots."""

    header: str = ""
    value: str = ""
    pattern: str = ""
    cookie: str = ""

    @property
    def annotations(self) -> dict[str, str]:
        found = {HEADER: self.header, HEADER_VALUE: self.value, HEADER_PATTERN: self.pattern, COOKIE: self.cookie}
        return {key: value for key, value in found.items() if value}


def annotations_of(exposure: Exposure) -> dict[str, str]:
    """The annotations of a canary Ingress with this exposure, but for `canary` itself.

    What can't be said is left out: `refused` has told about it before a release could start.
    """
    rules, _ = _compile(exposure.match)
    return rules.annotations | {WEIGHT: str(exposure.weight)}


def refused(exposure: Exposure) -> Iterator[Refusal]:
    """What of an exposure these annotations can't say, and the ways out."""
    general = list(refusals(FEATURES, exposure))
    yield from general
    bad = {refusal.match for refusal in general}
    if not bad & set(range(len(exposure.match))):
        yield from _compile(exposure.match)[1]


def _compile(matches: Sequence[Match]) -> tuple[Rules, list[Refusal]]:
    """The slots filled by `matches` in their order, and what found no place."""
    problems: list[Refusal] = []
    cookie = ""
    slot = ""  # the header's name; "Cookie:NAME" where it is taken by a cookie's value
    values: list[TextMatch] = []
    for index, match in enumerate(matches):
        for field, wanted in list(conditions(match))[:1]:
            if field == "cookie" and wanted.exact == "always" and cookie in ("", wanted.name):
                problems += _named(index, "cookie", wanted.name)
                cookie = wanted.name
                continue
            key = wanted.name.lower() if field == "header" else f"Cookie:{wanted.name}"
            if slot and slot != key:
                text = f"the header's one slot is taken by {_taken(slot)} already: {WAYS_OUT}"
                problems.append(Refusal(text, index, field))
                continue
            problems += _named(index, field, wanted.name) + _sayable(index, field, wanted)
            slot = key
            values.append(wanted)
    if not values:
        return Rules(cookie=cookie), problems
    if slot.startswith("Cookie:"):
        return Rules("Cookie", pattern=_cookie_pattern(values), cookie=cookie), problems
    return _header_rules(values, cookie), problems


def _taken(slot: str) -> str:
    return f'the value of cookie "{slot[7:]}"' if slot.startswith("Cookie:") else f'header "{slot}"'


def _header_rules(values: list[TextMatch], cookie: str) -> Rules:
    name = values[0].name
    exact = values[0].exact
    if len(values) == 1 and exact and is_basic(exact):
        return Rules(name, value="" if exact == "always" else exact, cookie=cookie)
    return Rules(name, pattern=f"^({'|'.join(map(_header_pattern, values))})", cookie=cookie)


def _header_pattern(wanted: TextMatch) -> str:
    if wanted.exact is not None:
        return f"{_escaped(wanted.exact)}$"
    if wanted.prefix is not None:
        return _escaped(wanted.prefix)
    return f"({wanted.regex})$" if wanted.regex is not None else ""


def _cookie_pattern(values: list[TextMatch]) -> str:
    r"""The Cookie header is `name=value; name=value` (RFC 6265, 5.4)."""
    return rf"(^|\x3b\s*){_escaped(values[0].name)}=({'|'.join(map(_cookie_value, values))})"


def _cookie_value(wanted: TextMatch) -> str:
    if wanted.exact is not None:
        return rf"{_escaped(wanted.exact)}\s*(\x3b|$)"
    if wanted.prefix is not None:
        return _escaped(wanted.prefix)
    return rf"({wanted.regex})\s*(\x3b|$)" if wanted.regex is not None else ""


_PLAIN = re.compile(r"[-_~a-zA-Z0-9/:=&]")


def _escaped(text: str) -> str:
    r"""Literal text in a pattern: `\xNN` for whatever isn't plain, read alike by PCRE and RE2."""
    return "".join(
        char if _PLAIN.fullmatch(char) else "".join(f"\\x{byte:02x}" for byte in char.encode()) for char in text
    )


# --- what these annotations can't say ---

_RUNS_ON = re.compile(r"\.|\\[SDWPpHVNRX]|\[\^")


def _named(index: int, field: str, name: str) -> list[Refusal]:
    if is_basic(name) and name:
        return []
    return [Refusal(f'the name "{name}" has characters other than letters, digits and -._~/:', index, f"{field}.name")]


def _sayable(index: int, field: str, wanted: TextMatch) -> list[Refusal]:
    if wanted.regex is None:
        return []
    where = f"{field}.regex"
    if not is_pattern(wanted.regex):
        found = "".join(sorted({char for char in wanted.regex if not is_pattern(char)}))
        return [Refusal(f"the annotation's pattern can't have {found!r}: write it another way", index, where)]
    if field == "cookie" and _RUNS_ON.search(wanted.regex):
        text = "would run on into the next cookie with . or a negated class: name the characters, for example [a-z0-9]+"
        return [Refusal(f'"{wanted.regex}" {text}', index, where)]
    return []


# --- back ---


def matches_of(config: CanaryConfig) -> tuple[Match, ...]:
    """Who reaches the canary by a header or a cookie, read back from an Ingress's rules."""
    found = []
    if config.header:
        found.append(Match(header=_read_header(config)))
    if config.cookie:
        found.append(Match(cookie=TextMatch(config.cookie, exact="always")))
    return tuple(found)


def _read_header(config: CanaryConfig) -> TextMatch:
    if config.header_value:
        return TextMatch(config.header, exact=config.header_value)
    if config.header_pattern:
        return TextMatch(config.header, regex=f".*({config.header_pattern}).*")
    return TextMatch(config.header, exact="always")
