"""The router for VirtualServices of Istio: weights of destinations, and a route for those who are chosen before each.

The user's VirtualService itself is written, and given back (`istio_split`). Each version has a Service of its own, so
no subsets are needed: this works at gateways, in sidecars and across clusters alike.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from davylamp.api.objects import DestinationRule, VirtualService
from davylamp.api.types import Match
from davylamp.core import names
from davylamp.core.actions import Ref
from davylamp.core.world import Exposure, Refusal, RouteContext, Wanted
from davylamp.routers import destination_rules, exports, istio_rules, istio_split
from davylamp.routers.istio_rules import MESH, Json
from davylamp.routers.istio_split import PROTOCOLS, Record, Sides
from davylamp.routers.restoring import annotation, remembered


class VirtualServiceRoute(msgspec.Struct, frozen=True):
    """One VirtualService of the user as it is now (`core.world.Route`), None where it is gone. `routes` are names of
    its HTTP routes; none: all that send to `service`. `rules` are the DestinationRules about that Service,
    `canary_rules` those about the canary's."""

    namespace: str
    vs_name: str
    service: str
    routes: tuple[str, ...] = ()
    virtual_service: VirtualService | None = None
    rules: tuple[DestinationRule, ...] = ()
    canary_rules: tuple[DestinationRule, ...] = ()
    subsets: bool = False

    @property
    def name(self) -> str:
        return f"VirtualService {self.vs_name}"

    @property
    def refs(self) -> tuple[Ref, ...]:
        known = {rule.metadata.name for rule in (*self.rules, *self.canary_rules)}
        rules = (Ref("DestinationRule", self.namespace, name) for name in sorted(known))
        return (Ref("VirtualService", self.namespace, self.vs_name), *rules)

    @property
    def sticky(self) -> str:
        """Nothing: the weight decides for each request, and a consistent hash only among the pods of a version."""
        return ""

    def desired(self, exposure: Exposure | None, context: RouteContext) -> Wanted:
        """What is left to write: one patch of the VirtualService, or nothing.

        It is made from the spec as it is now, given back first. So what others changed meanwhile stays, what they
        changed of ours is put right, and a restart, or a repetition, makes no difference.
        """
        found = self.virtual_service
        if found is None or found.metadata.deletion_timestamp is not None:
            return Wanted()
        sides = self._sides(context)
        wanted = istio_split.restore(found.spec, self._records(), sides)
        records: list[Record] = []
        if exposure is not None and not self.barred(context):
            wanted, records = istio_split.rewrite(wanted, exposure, sides)
        changed = {p: wanted[p] for p in PROTOCOLS if p in wanted and wanted[p] != found.spec.get(p)}
        meta: dict[str, Any] = {"resourceVersion": found.metadata.resource_version}
        note = annotation(found.metadata.annotations, self.service, records or None)
        if note != found.metadata.annotations.get(names.ROUTED):
            meta["annotations"] = {names.ROUTED: note}
        elif not changed:
            return Wanted()
        patch: dict[str, Any] = {"metadata": meta} | ({"spec": changed} if changed else {})
        return Wanted(patches=((self.refs[0], patch),))

    def prepared(self, context: RouteContext) -> Wanted:
        """What the user's DestinationRule says, said of the canary's Service as well."""
        if self.subsets:
            return Wanted() if self.barred(context) else destination_rules.subsets(self.rules, context)
        return destination_rules.prepared(self.rules, self.canary_rules, context)

    def remains(self, context: RouteContext) -> tuple[tuple[Ref, str], ...]:
        return destination_rules.remains((*self.rules, *self.canary_rules), context)

    def barred(self, context: RouteContext) -> str:
        found = self.virtual_service
        if found is None or not self.subsets:
            return ""
        users = destination_rules.users_of(self.rules, context)
        return "; ".join(f"{self.name}: {text}" for text in exports.unseen(found, users))

    def effective(self, context: RouteContext) -> Exposure | None:
        """The exposure that the VirtualService means at this moment: the largest share, in percent rounded up, that
        any of its routes gives to the canary's Service, with whom it sends there in any case, and the largest part
        that is mirrored. None where the canary gets nothing."""
        found = self.virtual_service
        if found is None:
            return None
        sides = self._sides(context)
        weight, mirror, matches = 0.0, 0.0, list[Match]()
        for protocol in PROTOCOLS:
            chosen: list[Json] = []
            for route in istio_split.maps(found.spec, protocol):
                if protocol == "http" and istio_split.is_davylamps(route):
                    chosen += [route] if istio_split.is_ours(route, sides) else []
                    continue
                matches += _read_back(chosen, route)
                chosen = []
                weight = max(weight, _share(route, sides))
                mirror = max(mirror, _mirrored(route, sides))
        if not (weight or mirror or matches):
            return None
        unique = tuple(match for number, match in enumerate(matches) if match not in matches[:number])
        return Exposure(math.ceil(weight), unique, math.ceil(mirror))

    def converged(self, exposure: Exposure | None, context: RouteContext) -> str:
        """Istio says nothing of a VirtualService in its status: only the traffic tells, or the settling time."""
        return self.hindrance(context) if exposure is not None else ""

    def refusals(self, exposure: Exposure) -> tuple[Refusal, ...]:
        """What of an exposure can't be had here."""
        found = list(istio_rules.refused(exposure))
        if self.virtual_service is None:
            return tuple(found)
        spec = self.virtual_service.spec
        sides = Sides(self.namespace, self.service, "", self.routes, self.subsets)
        for index, text in istio_split.clashes(spec, exposure, sides):
            found.append(Refusal(f"{text}: name other HTTP routes, or match by something else", index))
        if MESH not in (spec.get("gateways") or [MESH]):
            text = 'pods are known to sidecars only, and "mesh" is not among spec.gateways: add it, or leave this out'
            found += [Refusal(text, i, "sourceLabels") for i, m in enumerate(exposure.match) if m.source_labels]
        http = any(
            istio_split.sends_to(route, sides.is_stable)
            for route in istio_split.maps(spec, "http")
            if sides.covers("http", route)
        )
        if not http:
            text = "only TCP or TLS routes send to the Service, where requests are not looked at: use the weight alone"
            found += [Refusal(text, index) for index, _ in enumerate(exposure.match)]
            found += [Refusal(text, field="mirror")] if exposure.mirror else []
        return tuple(found)

    def hindrance(self, context: RouteContext) -> str:
        """Why an exposure can't be brought into effect here, for people; "" if nothing stands in the way."""
        found = self.virtual_service
        if found is None:
            return f"VirtualService {self.vs_name} is gone"
        sides = self._sides(context)
        plain = istio_split.restore(found.spec, self._records(), sides)
        for protocol in PROTOCOLS:
            for route in istio_split.maps(plain, protocol):
                if sides.covers(protocol, route) and istio_split.sends_to(route, sides.is_stable):
                    return ""
        return f"VirtualService {self.vs_name} no longer sends to Service {self.service}"

    def _sides(self, context: RouteContext) -> Sides:
        return Sides(self.namespace, self.service, context.canary_service, self.routes, self.subsets)

    def _records(self) -> list[Record]:
        """What was remembered. Where somebody spoilt it, what is ours is taken out and its weight given back."""
        assert self.virtual_service is not None
        return remembered(self.virtual_service.metadata.annotations, self.service, list[Record]) or []


def _share(route: Json, sides: Sides) -> float:
    """Percent of this Service's requests that a route gives to the canary."""
    weights = {"canary": 0, "stable": 0}
    for target in istio_split.maps(route, "route"):
        destination = target.get("destination")
        if sides.is_canary(destination):
            weights["canary"] += int(target.get("weight", 0)) or int(len(route["route"]) == 1)
        elif sides.is_stable(destination):
            weights["stable"] += int(target.get("weight", 0))
    total = sum(weights.values())
    return 100 * weights["canary"] / total if total else 0.0


def _mirrored(route: Json, sides: Sides) -> float:
    mirrors = istio_split.mirrors_of(route)
    return max(
        (
            float((mirror.get("percentage") or {"value": 100}).get("value", 0))
            for mirror in mirrors
            if sides.is_canary(mirror.get("destination"))
        ),
        default=0.0,
    )


def _read_back(chosen: list[Json], route: Json) -> list[Match]:
    """The matches that our routes before `route` say."""
    original = route.get("match") or []
    found = (istio_rules.read_back(entry, original) for ours in chosen for entry in istio_split.maps(ours, "match"))
    return [match for match in found if match is not None]
