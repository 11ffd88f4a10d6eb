"""Rewriting the spec of a VirtualService for an exposure, and giving it back as it was.

Both work on the plain JSON of the spec as it is NOW, so whatever others change during a release, and every field that
we don't know, stays. What is ours can be told from what isn't: destinations and mirrors that send to the canary's
Service, and HTTP routes whose name begins with `davylamp.<service>.`. What can't be told from the rewritten spec (a
weight that was not written, two weights that were multiplied) is remembered in records, which are kept in an
annotation that is written in the same patch as the spec. So there is no moment at which only one of them is there.

A record is found again by the digest of the fields that we wrote: untouched, the fields are put back exactly. Where
somebody changed these very fields in between, what is ours is taken out of them, and the rest is theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from davylamp.core.world import Exposure
from davylamp.routers.istio_rules import Clash, Json, entries
from davylamp.routers.senders import service_of_host

PROTOCOLS = ("http", "tls", "tcp")
PREFIX = "davylamp."
STABLE, CANARY = "davylamp-stable", "davylamp-canary"
"""Names of subsets."""
_MIRRORING = ("mirror", "mirrors", "mirrorPercentage", "mirrorPercent", "mirror_percent")
_OURS = ("route", *_MIRRORING)
"""The fields of a route that we write."""


class Sides(msgspec.Struct, frozen=True):
    """Whose requests are split, and whereto. `routes` are names of HTTP routes; none: all that send to `service`."""

    namespace: str
    service: str
    canary: str
    routes: tuple[str, ...] = ()
    subsets: bool = False
    """Both have the host of `service`, and are told apart by subsets."""

    def is_stable(self, destination: Any) -> bool:
        return self._service_of(destination) == self.service and not self.is_canary(destination)

    def is_canary(self, destination: Any) -> bool:
        if self.subsets:
            return self._service_of(destination) == self.service and destination.get("subset") == CANARY
        return self._service_of(destination) == self.canary

    def is_written(self, destination: Any) -> bool:
        """Whether somebody else would not have written it."""
        stable = self.subsets and self._service_of(destination) == self.service
        return self.is_canary(destination) or (stable and destination.get("subset") == STABLE)

    def _service_of(self, destination: Any) -> str | None:
        host = destination.get("host") if isinstance(destination, dict) else None
        return service_of_host(str(host), self.namespace) if host else None

    @property
    def prefix(self) -> str:
        """Of the names of HTTP routes that are ours. (A Service's name has no dot in it.)"""
        return f"{PREFIX}{self.service}."

    def covers(self, protocol: str, route: Json) -> bool:
        """Whether this route is one to split, if it sends to the Service at all."""
        return not self.routes or (protocol == "http" and route.get("name") in self.routes)


class Record(msgspec.Struct, frozen=True):
    """What a route of the user's had in the fields that we wrote."""

    wrote: str
    """Digest of these fields as we wrote them."""
    at: str
    """Digest of the route's other fields."""
    times: int
    """By what all weights were multiplied to make whole numbers of the shares."""
    was: dict[str, Any]


def sends_to(route: Json, is_wanted: Callable[[Any], bool]) -> bool:
    """Whether requests of this route go to a wanted destination: with a weight, unless it is the only one."""
    targets = _targets(route)
    return any(is_wanted(t.get("destination")) and (len(targets) == 1 or t.get("weight")) for t in targets)


def maps(spec: Json, protocol: str) -> list[Json]:
    """The routes of a protocol, whatever else a foreign object has there."""
    found = spec.get(protocol)
    return [route for route in found if isinstance(route, dict)] if isinstance(found, list) else []


def is_ours(route: Json, sides: Sides) -> bool:
    """Whether this HTTP route is one that we put in."""
    return str(route.get("name", "")).startswith(sides.prefix)


def is_davylamps(route: Json) -> bool:
    """Whether a release put this HTTP route in, of whatever Service."""
    return str(route.get("name", "")).startswith(PREFIX)


# --- there ---


def rewrite(spec: Json, exposure: Exposure, sides: Sides) -> tuple[Json, list[Record]]:
    """The user's spec with `exposure` in it, and what is needed to give it back.

    Matches that can't be said are left out: `clashes` has told about them before a release could start.
    """
    result, records = dict(spec), list[Record]()
    for protocol in PROTOCOLS:
        if not isinstance(spec.get(protocol), list):
            continue
        routes: list[Any] = []
        for route in spec[protocol]:
            split = isinstance(route, dict) and sides.covers(protocol, route) and sends_to(route, sides.is_stable)
            if split and protocol == "http":
                name = f"{sides.prefix}{sum(is_ours(r, sides) for r in routes if isinstance(r, dict)) + 1}"
                _insert(routes, _chosen(route, exposure, sides, name))
            changed = _weighted(route, exposure, sides, mirror=protocol == "http") if split else None
            if changed is not None:
                records.append(changed[1])
            routes.append(changed[0] if changed is not None else route)
        result[protocol] = routes
    return result, records


def _insert(routes: list[Any], chosen: Iterator[Json]) -> None:
    """Before the route that comes next. Where another Service is released at the same place, the two are in the order
    of their names, or each release would put its own last, again and again."""
    for route in chosen:
        at = len(routes)
        while (
            at
            and isinstance(routes[at - 1], dict)
            and is_davylamps(routes[at - 1])
            and routes[at - 1]["name"] > route["name"]
        ):
            at -= 1
        routes.insert(at, route)


def _chosen(route: Json, exposure: Exposure, sides: Sides, name: str) -> Iterator[Json]:
    """A copy of an HTTP route for those who are chosen; everything but where it sends to stays."""
    wanted: list[Json] = []
    for match in exposure.match:
        try:
            wanted += entries(match, route.get("match") or [])
        except Clash:
            continue
    if wanted:
        targets = [t for t in _targets(route) if sides.is_stable(t.get("destination"))]
        alone = len(targets) == 1
        to = [_to_canary(target, sides, keep_weight=not alone) for target in targets]
        yield {**route, "name": name, "match": wanted, "route": to}


def clashes(spec: Json, exposure: Exposure, sides: Sides) -> Iterator[tuple[int, str]]:
    """Matches (by index) that can't be added to what the user's HTTP routes ask already, and where."""
    for index, match in enumerate(exposure.match):
        for number, route in enumerate(maps(spec, "http")):
            if is_ours(route, sides) or not sides.covers("http", route) or not sends_to(route, sides.is_stable):
                continue
            try:
                entries(match, route.get("match") or [])
            except Clash as clash:
                yield index, f"spec.http[{number}] asks for {clash} already, and both can't be asked for at once"


def _weighted(route: Json, exposure: Exposure, sides: Sides, *, mirror: bool) -> tuple[Json, Record] | None:
    """The route with its share divided, and mirrored; None where there is nothing to change."""
    changed = dict(route)
    targets, times = _targets(route), 1
    if exposure.weight or sides.subsets:
        weights = [int(t.get("weight", 0)) if len(targets) > 1 else 100 for t in targets]
        stable = [sides.is_stable(t.get("destination")) for t in targets]
        times = _times([w for w, split in zip(weights, stable, strict=True) if split], exposure.weight)
        divided: list[Json] = []
        for target, weight, split in zip(targets, weights, stable, strict=True):
            canary = weight * times * exposure.weight // 100 if split else 0
            stays = _to_stable(target) if sides.subsets and split else target
            divided.append({**stays, "weight": weight * times - canary})
            if canary:
                divided.append({**_to_canary(target, sides, keep_weight=False), "weight": canary})
        changed["route"] = divided
    if mirror and exposure.mirror:
        first = next(t for t in targets if sides.is_stable(t.get("destination")))
        copies = {"destination": _to_canary(first, sides)["destination"], "percentage": {"value": exposure.mirror}}
        changed = {key: value for key, value in changed.items() if key not in _MIRRORING}
        changed["mirrors"] = [*mirrors_of(route), copies]
    if changed == route:
        return None
    was = {key: route[key] for key in _OURS if key in route}
    return changed, Record(_digest(changed, ours=True), _digest(changed, ours=False), times, was)


def _times(weights: list[int], percent: int) -> int:
    """The smallest factor that makes a whole number of each share: weights are integers, and Istio takes any sum."""
    return next(m for m in (1, 2, 4, 5, 10, 20, 25, 50, 100) if all(w * m * percent % 100 == 0 for w in weights))


def _to_canary(target: Json, sides: Sides, *, keep_weight: bool = False) -> Json:
    """The same port of the canary's Service. A subset is of a DestinationRule for the user's host, so it goes."""
    destination = target["destination"]
    host = str(destination["host"])
    moved = {key: value for key, value in destination.items() if key != "subset"}
    moved |= {"subset": CANARY} if sides.subsets else {"host": sides.canary + host[len(sides.service) :]}
    dropped = () if keep_weight else ("weight",)
    return {**{key: v for key, v in target.items() if key not in dropped}, "destination": moved}


def _to_stable(target: Json) -> Json:
    return {**target, "destination": {**target["destination"], "subset": STABLE}}


def _to_user(target: Json, sides: Sides) -> Json:
    """What somebody has left of ours, as the user's own."""
    destination = {key: value for key, value in target["destination"].items() if key != "subset" or not sides.subsets}
    if not sides.subsets:
        destination["host"] = sides.service + str(destination["host"])[len(sides.canary) :]
    return {**target, "destination": destination}


def mirrors_of(route: Json) -> list[Json]:
    """The mirrors of a route as a list. (Istio refuses `mirror` and `mirrors` together.)"""
    listed = [mirror for mirror in route.get("mirrors") or () if isinstance(mirror, dict)]
    single = route.get("mirror")
    if not isinstance(single, dict):
        return listed
    percentage = route.get("mirrorPercentage")
    older = route.get("mirrorPercent", route.get("mirror_percent"))
    if percentage is None and older is not None:
        percentage = {"value": older}
    return [*listed, {"destination": single} | ({"percentage": percentage} if percentage is not None else {})]


# --- and back ---


def restore(spec: Json, records: list[Record], sides: Sides) -> Json:
    """The user's spec: without what is ours, and with what `records` say was there before."""
    left = list(records)
    result = dict(spec)
    for protocol in PROTOCOLS:
        if isinstance(spec.get(protocol), list):
            result[protocol] = [
                _restored(route, left, sides) if isinstance(route, dict) else route
                for route in spec[protocol]
                if not (protocol == "http" and isinstance(route, dict) and is_ours(route, sides))
            ]
    return result


def _restored(route: Json, left: list[Record], sides: Sides) -> Json:
    if not has_canary(route, sides):
        return route
    wrote, at = _digest(route, ours=True), _digest(route, ours=False)
    same = next((r for r in left if (r.wrote, r.at) == (wrote, at)), None) or next(
        (r for r in left if r.wrote == wrote), None
    )
    if same is not None:
        left.remove(same)
        return {key: value for key, value in route.items() if key not in _OURS} | same.was
    plain = _without_canary(route, sides)
    to = [target.get("destination") for target in plain["route"]]
    edited = next((r for r in left if r.at == at), None) or next(
        (r for r in left if [t.get("destination") for t in _targets(r.was)] == to), None
    )
    if edited is None:
        return plain
    left.remove(edited)
    return {**plain, "route": _unmultiplied(plain["route"], edited)}


def has_canary(route: Json, sides: Sides) -> bool:
    """Whether a route sends or mirrors anything to the canary, or to what only we write."""
    mirrors = [m.get("destination") for m in route.get("mirrors") or () if isinstance(m, dict)]
    return any(sides.is_written(d) for d in (*(t.get("destination") for t in _targets(route)), *mirrors))


def _without_canary(route: Json, sides: Sides) -> Json:
    """The route of somebody who changed what we wrote: our entries taken out, their weight given back."""
    targets: list[Json] = []
    for target in _targets(route):
        if not sides.is_canary(target.get("destination")):
            written = sides.is_written(target.get("destination"))
            targets.append(_to_user(target, sides) if written else dict(target))
            continue
        before = targets[-1] if targets else {}
        if sides.is_stable(before.get("destination")):
            before["weight"] = int(before.get("weight", 0)) + int(target.get("weight", 0))
        else:  # the stable side was taken out: the requests are its own all the same
            targets.append(_to_user(target, sides))
    result = {**route, "route": targets}
    if "mirrors" in route:
        result["mirrors"] = [m for m in route["mirrors"] if not sides.is_canary(m.get("destination"))]
        if not result["mirrors"]:
            del result["mirrors"]
    return result


def _unmultiplied(targets: list[Json], record: Record) -> list[Json]:
    """The weights as their owner wrote them, where they still are what we made of them."""
    if all(int(t.get("weight", 0)) % record.times == 0 for t in targets):
        targets = [{**t, "weight": int(t["weight"]) // record.times} if "weight" in t else t for t in targets]
    before: list[Json] = record.was.get("route", [])
    alone = len(before) == 1 and len(targets) == 1
    if alone and "weight" not in before[0] and targets[0].get("weight") == 100:
        return [{key: value for key, value in targets[0].items() if key != "weight"}]
    return targets


def _targets(route: Json) -> list[Json]:
    found = route.get("route")
    return [target for target in found if isinstance(target, dict)] if isinstance(found, list) else []


def _digest(route: Json, *, ours: bool) -> str:
    content = {key: value for key, value in route.items() if (key in _OURS) == ours}
    return hashlib.blake2b(msgspec.json.encode(content, order="deterministic"), digest_size=5).hexdigest()
