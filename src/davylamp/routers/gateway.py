"""The router for the Gateway API: an HTTPRoute or GRPCRoute of the user's, split by the weights of its backends.

Nothing is created. The user's own route is patched, and an annotation in the same patch remembers how it was
(`restoring`). At the end it is what it was before, with what others have changed meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from davylamp.api.objects import GatewayClass, GRPCRoute
from davylamp.core import names
from davylamp.core.actions import Ref
from davylamp.core.world import Exposure, Refusal, RouteContext, Wanted
from davylamp.routers.features import ALL, Features, refusals
from davylamp.routers.gateway_rules import Divided, Place, backends_of, divided, restored, rules_of
from davylamp.routers.gateway_status import Routed, controllers_of, known_to_lack, lacking, listing, unseen, waiting
from davylamp.routers.patterns import runs_on
from davylamp.routers.precedence import Rule, matches_of, shares
from davylamp.routers.restoring import Record, annotation, recorded

HTTP = Features(
    router="an HTTPRoute",
    header=ALL,
    cookie=ALL,
    query=ALL,
    several_conditions=True,
    several_names=True,
    mirror="percent",
    notes=(
        "`prefix`, `regex`, `present` and all cookies become regular expressions on a header, which the API leaves to "
        "implementations; one that has none says so in the route's status, and the release waits.",
        "Query parameters need HTTPRouteQueryParamMatching, mirroring HTTPRouteRequestMirror, and below 100 % "
        "HTTPRouteRequestPercentageMirror in the GatewayClass's supportedFeatures.",
        "A header that the route's own rules ask for can't be used for a match.",
    ),
)
GRPC = Features(
    router="a GRPCRoute",
    header=ALL,
    several_names=True,
    notes=(
        "Headers by exact value everywhere, by other operators where the implementation has regular expressions.",
        "The API has no feature by which an implementation could tell that it mirrors calls, so none is asked to.",
    ),
)


MIRRORING = frozenset({"istio.io/gateway-controller", "istio.io/mesh-controller"})
"""Controllers that copy requests, also by percent, though their class lists no features (seen with Istio 1.31)."""


class GatewayRoute(msgspec.Struct, frozen=True):
    """One route of the user's as it is now (`core.world.Route`); None where it is gone."""

    namespace: str
    kind: str
    route_name: str
    service: str
    route: Routed | None = None
    classes: Mapping[str, GatewayClass] = {}
    canary_service: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.route_name}"

    @property
    def refs(self) -> tuple[Ref, ...]:
        return (Ref(self.kind, self.namespace, self.route_name),)

    @property
    def sticky(self) -> str:
        """Sessions that the route itself keeps (GEP-1619): a client stays at its version."""
        kept = [rule for rule in self._plain() if rule.get("sessionPersistence") and self._place.sends(rule)]
        return f"the session persistence of {self.name}" if kept else ""

    def desired(self, exposure: Exposure | None, context: RouteContext) -> Wanted:
        """One patch of the user's route, or nothing. Its rules without us are what counts, also while a release runs:
        what somebody else changes in them is divided anew, and what they change of ours is put right."""
        route = self.route
        if route is None:
            return Wanted()
        plain = self._plain()
        wanted = divided(plain, exposure, self._place) if exposure is not None else Divided(plain, None)
        rules = wanted.rules if not _breaking(wanted) else plain
        record = wanted.record if not _breaking(wanted) else None
        if rules == rules_of(route.spec) and record == self._record:
            return Wanted()
        content: dict[str, Any] = {
            "metadata": {
                "resourceVersion": route.metadata.resource_version,
                "annotations": {names.ROUTED: annotation(route.metadata.annotations, self.service, record)},
            }
        }
        if rules != rules_of(route.spec):
            content["spec"] = {"rules": rules}
        return Wanted(patches=((self.refs[0], content),))

    def prepared(self, context: RouteContext) -> Wanted:
        return Wanted()

    def barred(self, context: RouteContext) -> str:
        return ""

    def remains(self, context: RouteContext) -> tuple[tuple[Ref, str], ...]:
        return ()

    def effective(self, context: RouteContext) -> Exposure | None:
        """The exposure that the route means at this moment: the largest share, in percent rounded up, that any of the
        user's rules sends to the canary's Service of what goes to the two; the matches all of whose rules are there;
        the largest part that is copied. None where nothing reaches the canary."""
        rules = rules_of(self.route.spec) if self.route is not None else []
        record = self._record or Record()
        own = [rule for rule in rules if rule.get("matches") not in record.added]
        weight = max((_share(rule, self._place) for rule in own), default=0)
        mirror = max((_mirrored(rule, self._place) for rule in own), default=0)
        plain = self._plain()
        found = []
        for match in record.match:
            added = divided(plain, Exposure(0, (match,)), self._place).record or Record()
            asked = [one for matches in added.added for one in matches]
            if asked and all(any(one in matches_of(rule) for rule in rules) for one in asked):
                found.append(match)
        exposure = Exposure(weight, tuple(found), mirror)
        return exposure if exposure != Exposure(0) else None

    def converged(self, exposure: Exposure | None, context: RouteContext) -> str:
        """What the implementations say in the route's status. It runs ahead of the traffic: the settling time comes
        on top. On the way back it is enough that they have looked: a route that they refuse brings no requests."""
        if self.route is None:
            return self.hindrance(context) if exposure is not None else ""
        if exposure is None:
            return unseen(self.route)
        wrong = divided(self._plain(), exposure, self._place).problems
        unsaid = f"{self.name}: {wrong[0].message}" if wrong else ""
        return self.hindrance(context) or unsaid or waiting(self.route)

    def hindrance(self, context: RouteContext) -> str:
        """Why an exposure can't be brought into effect here, for people; "" if nothing stands in the way."""
        if self.route is None:
            return f"{self.name} is gone"
        if not any(self._place.sends(rule) for rule in self._plain()):
            return f"{self.name} no longer sends to Service {self.service}"
        return ""

    def refusals(self, exposure: Exposure) -> tuple[Refusal, ...]:
        """What of `exposure` this route can't say, for its own rules or for the implementation's features."""
        return tuple(self._refusals(exposure))

    def _refusals(self, exposure: Exposure) -> Iterator[Refusal]:
        general = list(refusals(GRPC if self._place.grpc else HTTP, exposure))
        yield from general
        for index, match in enumerate(exposure.match):
            if match.cookie is not None and (text := runs_on(match.cookie)):
                yield Refusal(text, index, "cookie.regex")
        yield from self._unsupported(exposure)
        if not general:
            yield from divided(self._plain(), exposure, self._place).problems

    def _unsupported(self, exposure: Exposure) -> Iterator[Refusal]:
        controllers = controllers_of(self.route) if self.route is not None else set()
        if self._place.grpc:
            return
        if exposure.mirror and controllers:
            unsure = set(controllers) - (MIRRORING - listing(self.classes))
            missing = list(lacking("HTTPRouteRequestMirror", unsure, self.classes))
            if not missing and exposure.mirror < 100:
                missing = list(lacking("HTTPRouteRequestPercentageMirror", unsure, self.classes))
            if missing:
                ways = "leave mirror out, or split by an HTTPRoute of an implementation that can, or a VirtualService"
                yield Refusal(f"{'; '.join(missing)}: {ways}", field="mirror")
        for index, match in enumerate(exposure.match):
            if match.query is not None and controllers:
                missing = list(known_to_lack("HTTPRouteQueryParamMatching", controllers, self.classes))
                if missing:
                    yield Refusal(f"{'; '.join(missing)}: use a header or a cookie", index, "query")

    @property
    def _place(self) -> Place:
        canary = self.canary_service or names.canary_service(self.service)
        return Place(self.namespace, self.service, canary, self.kind == "GRPCRoute")

    @property
    def _record(self) -> Record | None:
        return recorded(self.route.metadata.annotations, self.service) if self.route is not None else None

    def _plain(self) -> list[Rule]:
        """The user's own rules."""
        return restored(rules_of(self.route.spec), self._record, self._place) if self.route is not None else []


def is_split(route: Routed, service: str) -> bool:
    """True while a release of this Service has something of ours in the route."""
    place = Place(route.metadata.namespace, service, names.canary_service(service), isinstance(route, GRPCRoute))
    return recorded(route.metadata.annotations, service) is not None or any(
        place.is_canary(ref) for rule in rules_of(route.spec) for ref in backends_of(rule)
    )


def _breaking(wanted: Divided) -> bool:
    """More than the API server would take: it is told as a refusal, and nothing is written."""
    return any(problem.match is None and problem.field == "" for problem in wanted.problems)


def _share(rule: Rule, place: Place) -> int:
    found = shares({**rule, "backendRefs": [r for r in backends_of(rule) if place.is_stable(r) or place.is_canary(r)]})
    return math.ceil(100 * found.get(place.canary, 0))


def _mirrored(rule: Rule, place: Place) -> int:
    copies = [one.get("requestMirror") or {} for one in rule.get("filters") or ()]
    parts = [_percent(copy) for copy in copies if place.is_canary(copy.get("backendRef") or {})]
    return max(parts, default=0)


def _percent(copies: dict[str, Any]) -> int:
    fraction = copies.get("fraction")
    if isinstance(fraction, dict):
        return math.ceil(100 * int(fraction.get("numerator", 0)) / int(fraction.get("denominator", 100)))
    return int(copies.get("percent", 100))
