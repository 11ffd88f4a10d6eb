"""Which side answers a request: the decision table of ingress-nginx's canaries, as a pure function.

Read from ingress-nginx v1.15.1, its final release, and so frozen: annotations in
`internal/ingress/annotations/canary/main.go` and `parser/validators.go`, the decision in
`rootfs/etc/nginx/lua/balancer.lua` (`route_to_alternative_balancer`). Traefik 3.7 and Higress honour the same
annotations; where they differ, docs/routers.md says so. Which canary belongs to which Ingress is `merging`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

PREFIX = "nginx.ingress.kubernetes.io/"
CANARY = f"{PREFIX}canary"
WEIGHT = f"{PREFIX}canary-weight"
WEIGHT_TOTAL = f"{PREFIX}canary-weight-total"
HEADER = f"{PREFIX}canary-by-header"
HEADER_VALUE = f"{PREFIX}canary-by-header-value"
HEADER_PATTERN = f"{PREFIX}canary-by-header-pattern"
COOKIE = f"{PREFIX}canary-by-cookie"

Answer = Literal["main", "canary", "503"]
Side = Literal["main", "canary"]


class CanaryConfig(msgspec.Struct, frozen=True):
    """A canary Ingress's rules, as the controller understands them."""

    enabled: bool = False
    weight: int = 0
    weight_total: int = 100
    header: str = ""
    header_value: str = ""
    header_pattern: str = ""
    cookie: str = ""

    @property
    def total(self) -> int:
        """What the weight is a part of; never less than 100."""
        return max(self.weight_total, 100)

    @property
    def share(self) -> float:
        """Percent of the requests without a header or cookie of the rules that reach the canary."""
        return 100 * min(max(self.weight, 0), self.total) / self.total

    @property
    def ruled(self) -> bool:
        """True if some rule is set. With one of them and without `canary: "true"` it is an ordinary Ingress."""
        return self.weight > 0 or bool(self.header or self.header_value or self.header_pattern or self.cookie)


class Request(msgspec.Struct, frozen=True):
    """What a decision depends on. `roll` is the random number, in 1..total; `affinity` the side that an affinity
    cookie of an earlier answer binds the client to."""

    headers: Mapping[str, str] = {}
    cookies: Mapping[str, str] = {}
    roll: int = 1
    affinity: Side | None = None


def parse(annotations: Mapping[str, str]) -> CanaryConfig:
    """The rules in an Ingress's annotations. What is invalid counts as not given, without a word, as there."""
    total = _integer(annotations, WEIGHT_TOTAL)
    return CanaryConfig(
        enabled=annotations.get(CANARY, "") in _TRUE,
        weight=_integer(annotations, WEIGHT) or 0,
        weight_total=100 if total is None else total,
        header=_basic(annotations, HEADER),
        header_value=_basic(annotations, HEADER_VALUE),
        header_pattern=_text(annotations, HEADER_PATTERN, _PATTERN),
        cookie=_basic(annotations, COOKIE),
    )


def decide(
    config: CanaryConfig | None,
    request: Request,
    *,
    main_ready: bool = True,
    canary_ready: bool = True,
) -> Answer:
    """The side that answers `request`. `config` is None where no canary is attached; `*_ready` tells whether the
    side has endpoints (without any on the main side nothing is answered, whatever the weight)."""
    if not main_ready:
        return "503"
    if request.affinity == "main" or config is None or not canary_ready:
        return "main"
    if request.affinity == "canary":
        return "canary"
    return _by_header(config, request) or _by_cookie(config, request) or _by_weight(config, request)


def _by_header(config: CanaryConfig, request: Request) -> Side | None:
    """The header's verdict, or None where it has none and the next rule decides."""
    value = _header(request.headers, config.header) if config.header else None
    if value is None:
        return None
    if config.header_value:
        return "canary" if value == config.header_value else None
    if config.header_pattern:
        try:
            return "canary" if re.search(config.header_pattern, value) else None
        except (re.error, RecursionError):
            return "main"
    return _always_or_never(value)


def _by_cookie(config: CanaryConfig, request: Request) -> Side | None:
    if not config.cookie:
        return None
    name = config.cookie.lower()  # nginx compares the names of cookies without case
    return _always_or_never(next((v for k, v in request.cookies.items() if k.lower() == name), ""))


def _by_weight(config: CanaryConfig, request: Request) -> Side:
    return "canary" if request.roll <= config.weight else "main"


def _always_or_never(value: str) -> Side | None:
    if value == "always":
        return "canary"
    return "main" if value == "never" else None


def _header(headers: Mapping[str, str], name: str) -> str | None:
    """A header as nginx's `$http_name` finds it: without case, dashes and underscores alike."""
    wanted = _plain(name)
    return next((value for key, value in headers.items() if _plain(key) == wanted), None)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


# --- annotation values ---

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # Go's strconv.ParseBool
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # Go's strconv.Atoi; more digits overflow, or come near it
_BASIC = re.compile(r"[-._~a-zA-Z0-9/:]*")
_PATTERN = re.compile(r"[-._~a-zA-Z0-9/:^$\[\](){}*+?|&=\\]*")


def is_basic(text: str) -> bool:
    """Whether a header's name or value or a cookie's name is taken as it is."""
    return _BASIC.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Whether a header's pattern is taken, and not dropped for a character that may not be in it."""
    return _PATTERN.fullmatch(text) is not None


def _integer(annotations: Mapping[str, str], key: str) -> int | None:
    value = annotations.get(key, "")
    return int(value) if _INTEGER.fullmatch(value) else None


def _basic(annotations: Mapping[str, str], key: str) -> str:
    """Spaces are left out of the check, though not of the value."""
    if not _BASIC.fullmatch(annotations.get(key, "").replace(" ", "")):
        return ""
    return annotations.get(key, "").strip()


def _text(annotations: Mapping[str, str], key: str, allowed: re.Pattern[str]) -> str:
    value = annotations.get(key, "")
    return value if allowed.fullmatch(value) else ""
