"""What a match asks of a text, as one regular expression for proxies that have no other way to say it.

Anchored, and such that it means the same to implementations that search in a value (Go's regexp in Traefik, PCRE in
NGINX) and to those that compare all of it (RE2 in Envoy, so Istio, Envoy Gateway, Cilium and Contour).
"""

from __future__ import annotations

import re

from davylamp.api.types import TextMatch

_PLAIN = re.compile(r"[-_~a-zA-Z0-9/:=&@,<>]")
RUNS_ON = re.compile(r"\.|\\[SDWPpHVNRX]|\[\^")
"""What of a cookie's regular expression would run on into the next cookie."""


def escaped(text: str) -> str:
    """Literal text in a pattern, read alike by RE2, PCRE and Go's regexp."""
    return "".join(char if _PLAIN.fullmatch(char) or not char.isascii() else f"\\x{ord(char):02x}" for char in text)


def value_pattern(wanted: TextMatch) -> str:
    """The values of a header or a query parameter that are wanted."""
    return f"^{_values(wanted)}$"


def cookie_pattern(wanted: TextMatch) -> str:
    r"""The Cookie headers that have the wanted cookie: `name=value; name=value` (RFC 6265, 5.4)."""
    return rf"^(.*;\s*)?{escaped(wanted.name)}={_cookie_values(wanted)}(\s*;.*)?$"


def runs_on(wanted: TextMatch) -> str:
    """Why a cookie's regular expression can't be looked for in the Cookie header, for people; "" where it can."""
    if wanted.regex is None or not RUNS_ON.search(wanted.regex):
        return ""
    return (
        f'"{wanted.regex}" would run on into the next cookie with . or a negated class: '
        "name the characters, for example [a-z0-9]+"
    )


def _values(wanted: TextMatch) -> str:
    if wanted.exact is not None:
        return escaped(wanted.exact)
    if wanted.prefix is not None:
        return f"{escaped(wanted.prefix)}.*"
    return f"({wanted.regex})" if wanted.regex is not None else ".*"


def _cookie_values(wanted: TextMatch) -> str:
    if wanted.prefix is not None:
        return f"{escaped(wanted.prefix)}[^;]*"
    return "[^;]*" if wanted.present else _values(wanted)
