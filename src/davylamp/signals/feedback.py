"""What users say: `POST /feedback`, from the request to votes that count.

A vote counts once for each user, and only the hash of the user's key is kept. Who sends too much is told to wait.
The core is pure (`judge`, `Box`); `routes` has the handlers for the controller's own HTTP server.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from davylamp.analysis import counts
from davylamp.signals.addresses import Network
from davylamp.signals.masking import safe

MAX_BODY = 8192
MOST_USERS = 100_000
"""Of one release, that are told apart."""
MOST_ADDRESSES = 10_000
PER_MINUTE = 12
"""Requests from one address, and as many at once."""
NOTES = 20
"""Of the latest notes that are kept."""
_NOTE = 500


class Sides(msgspec.Struct, frozen=True):
    """How the two versions are called: pod-template-hash, image, tag, ReplicaSet; and their pods."""

    stable: frozenset[str]
    canary: frozenset[str]


class Rules(msgspec.Struct, frozen=True):
    """What a release's policy says about feedback."""

    token: str = ""
    origins: tuple[str, ...] = ()
    version_header: str = "X-Version"
    version_cookie: str = ""


class Request(msgspec.Struct, frozen=True):
    """What matters of a request. Names of headers are in lower case."""

    address: str
    headers: Mapping[str, str] = {}
    cookies: Mapping[str, str] = {}
    body: Mapping[str, Any] = {}


class Refusal(msgspec.Struct, frozen=True):
    status: int
    message: str


class Said(msgspec.Struct, frozen=True):
    """A valid vote, good or bad."""

    user: str
    """A hash."""
    canary: bool
    bad: bool
    began: float
    """When the user's session began, seconds since the epoch."""
    note: str = ""


def judge(request: Request, rules: Rules, sides: Sides, salt: bytes, now: float) -> Said | Refusal:
    """The vote in a request, or why it is none. `salt` makes hashes of users differ between releases."""
    if rules.token and not hmac.compare_digest(_token(request).encode(), rules.token.encode()):
        return Refusal(401, "the token is missing or wrong: send Authorization: Bearer TOKEN")
    origin = request.headers.get("origin", "")
    if origin and not allowed_origin(origin, rules.origins):
        return Refusal(
            403, f"pages of {origin[:100]} may not send feedback; the policy's feedback.origins says whose may"
        )
    body = request.body
    for name, kind in (("bad", bool), ("note", str), ("user", str), ("version", str), ("pod", str)):
        if name in body and not isinstance(body[name], kind):
            return Refusal(400, f"{name}: {json.dumps(body[name])[:60]} where {_KINDS[kind]} is expected")
    if "bad" not in body:
        return Refusal(400, "bad: is missing: true if something is wrong, false if all is fine")
    began = body.get("began", now)
    if isinstance(began, bool) or not isinstance(began, int | float) or not 0 <= began <= now + 300:
        return Refusal(400, "began: when the user's session began, in seconds since the epoch, and not in the future")
    canary = _side(request, rules, sides)
    if isinstance(canary, Refusal):
        return canary
    key = body.get("user") or request.address
    user = hashlib.blake2b(key.encode(), key=salt[:64], digest_size=12).hexdigest()
    return Said(user, canary, body["bad"], float(began), safe(body.get("note", ""))[:_NOTE])


_KINDS = {bool: "true or false", str: "text"}


def _token(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _side(request: Request, rules: Rules, sides: Sides) -> bool | Refusal:
    """Whether the canary served the user: as the body says (version or pod), else a header, else a cookie."""
    cookie = request.cookies.get(rules.version_cookie, "") if rules.version_cookie else ""
    given = (
        ("pod", request.body.get("pod", "")),
        ("version", request.body.get("version", "")),
        (rules.version_header, request.headers.get(rules.version_header.lower(), "")),
        (f"cookie {rules.version_cookie}", cookie),
    )
    for name, value in given:
        if not value:
            continue
        if value in sides.canary and value not in sides.stable:
            return True
        if value in sides.stable and value not in sides.canary:
            return False
        return Refusal(422, f'{name}: "{value[:100]}" is neither the stable version nor the canary')
    return Refusal(400, f"which version served the user? Send {rules.version_header}, or version or pod in the body")


def allowed_origin(origin: str, origins: Collection[str]) -> bool:
    return origin in origins or "*" in origins


def address_of(peer: str, forwarded: str, trusted: Sequence[Network] = ()) -> str:
    """The client's address: the peer's, or the last in X-Forwarded-For that isn't a trusted proxy's own.

    A client can write into that header what it likes, so that only what trusted proxies added counts.
    """
    chain = [part.strip() for part in forwarded.split(",") if part.strip()] + [peer]
    for address in reversed(chain):
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return peer
        if not any(found in network for network in trusted if network.version == found.version):
            return address
    return peer


def network_of(address: str) -> str:
    """What shares a limit: an IPv4 address, or the /64 of an IPv6 address, which is one customer's."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


class Limits:
    """A bucket for each address: PER_MINUTE requests, and as many at once. Forgets who was away for long."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, address: str, now: float) -> bool:
        left, at = self._buckets.pop(address, (float(PER_MINUTE), now))
        left = min(float(PER_MINUTE), left + (now - at) * PER_MINUTE / 60)
        self._buckets[address] = (max(0.0, left - 1) if left >= 1 else left, now)
        if len(self._buckets) > MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        return left >= 1


class Box:
    """The votes of one release, until they are taken."""

    def __init__(self, rules: Rules, sides: Sides, salt: bytes) -> None:
        self.rules = rules
        self.sides = sides
        self.salt = salt
        self.notes: deque[str] = deque(maxlen=NOTES)
        """The latest of complaints about the canary."""
        self.good = [0, 0]
        """Users of stable and of the canary who said that all is fine."""
        self._users: set[str] = set()
        self._votes: list[counts.Vote] = []

    def put(self, said: Said) -> bool:
        """Count a vote; False if its user has voted already (or there are more users than can be told apart)."""
        if said.user in self._users or len(self._users) >= MOST_USERS:
            return False
        self._users.add(said.user)
        if not said.bad:
            self.good[said.canary] += 1
            return True
        self._votes.append(counts.Vote(said.user, said.canary, said.began))
        if said.note and said.canary:
            self.notes.append(said.note)
        return True

    def take(self, start: float, end: float, stable_requests: int, canary_requests: int) -> counts.Feedback:
        """The complaints since the last call."""
        votes, self._votes = self._votes, []
        return counts.Feedback(start, end, stable_requests, canary_requests, tuple(votes))


Find = Callable[[str, str], Box | None]
"""The box of the release that is under way for a Deployment, by its namespace and name."""


def routes(find: Find, now: Callable[[], float], trusted: Sequence[Network] = ()) -> list[web.RouteDef]:
    """`POST /feedback?namespace=shop&name=web` (both may stand in the body instead) and its preflight request.

    Answers 202 for a vote, 200 for one of a user who has voted, 400, 401, 403, 404, 413, 415, 422 and 429 with a
    sentence. `trusted` are the networks of proxies whose X-Forwarded-For is believed.
    """
    limits = Limits()

    async def preflight(request: web.Request) -> web.Response:
        box = find(request.query.get("namespace", ""), request.query.get("name", ""))
        return web.Response(status=204, headers=_cors(request, box))

    async def post(request: web.Request) -> web.Response:
        address = address_of(request.remote or "", request.headers.get("X-Forwarded-For", ""), trusted)
        if not limits.admit(network_of(address), now()):
            return _answer(429, "too many requests; wait a minute", {"Retry-After": "60"})
        body = await _body(request)
        if isinstance(body, Refusal):
            return _answer(body.status, body.message)
        where = [str(request.query.get(key) or body.get(key, "")) for key in ("namespace", "name")]
        box = find(*where)
        if box is None:
            return _answer(404, f"no release that takes feedback is under way for {'/'.join(where)}")
        headers = {name.lower(): value for name, value in request.headers.items()}
        said = judge(Request(address, headers, request.cookies, body), box.rules, box.sides, box.salt, now())
        if isinstance(said, Refusal):
            return _answer(said.status, said.message, _cors(request, box))
        new = box.put(said)
        return _answer(202 if new else 200, "thank you" if new else "this user has voted already", _cors(request, box))

    return [web.post("/feedback", post), web.options("/feedback", preflight)]


async def _body(request: web.Request) -> dict[str, Any] | Refusal:
    if (request.content_length or 0) > MAX_BODY:
        return Refusal(413, f"more than {MAX_BODY} bytes")
    raw = bytearray()
    async for chunk in request.content.iter_chunked(4096):
        raw += chunk
        if len(raw) > MAX_BODY:
            return Refusal(413, f"more than {MAX_BODY} bytes")
    if request.content_type not in ("application/json", "text/plain", "application/octet-stream"):
        return Refusal(415, f"{request.content_type} is not read: send JSON")
    try:
        found = msgspec.json.decode(bytes(raw))
    except msgspec.DecodeError as error:
        return Refusal(400, f"the body is no JSON: {error}")
    return found if isinstance(found, dict) else Refusal(400, 'the body is no object: send {"bad": true, ...}')


def _cors(request: web.Request, box: Box | None) -> dict[str, str]:
    """Nothing for pages that may not; their browsers then refuse."""
    origin = request.headers.get("Origin", "")
    if box is None or not origin or not allowed_origin(origin, box.rules.origins):
        return {}
    headers = {
        "Access-Control-Allow-Origin": origin if origin in box.rules.origins else "*",
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": f"Content-Type, Authorization, {box.rules.version_header}",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin",
    }
    # A cookie is sent only to whom the policy names, never to everybody.
    return headers | ({"Access-Control-Allow-Credentials": "true"} if origin in box.rules.origins else {})


def _answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"message": message}, status=status, headers=dict(headers or {}))
