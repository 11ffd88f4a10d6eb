"""What the status of an HTTPRoute or GRPCRoute says: who serves it, whether they have taken it as it is, and what they
can do. (gateway-api v1.6, apis/v1/shared_types.go, `RouteParentStatus`.)"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from davylamp.api.objects import GatewayClass, GRPCRoute, HTTPRoute
from davylamp.routers.wording import some

Routed = HTTPRoute | GRPCRoute

_DETACHED = {
    "NoMatchingParent": "no listener of it has this sectionName or port",
    "NotAllowedByListeners": "its listeners don't allow routes of this namespace or kind",
    "NoMatchingListenerHostname": "no listener of it has a hostname that meets the route's",
}
"""Reasons for not being accepted that rules have nothing to do with, and what they mean."""


class Answer(msgspec.Struct, frozen=True):
    """What one implementation says of one parent."""

    parent: str
    """For people: `Gateway web`, with the sectionName or port where one is given."""
    controller: str
    conditions: Mapping[str, dict[str, Any]]

    def status(self, condition: str) -> str:
        return str(self.conditions.get(condition, {}).get("status", ""))

    def says(self, condition: str) -> str:
        found = self.conditions.get(condition, {})
        return ": ".join(filter(None, (str(found.get("reason", "")), str(found.get("message", "")))))

    @property
    def accepted(self) -> bool:
        return self.status("Accepted") == "True"

    @property
    def detached(self) -> str:
        """Why nothing reaches the route through this parent, whatever its rules are; "" otherwise."""
        if self.accepted:
            return ""
        return _DETACHED.get(str(self.conditions.get("Accepted", {}).get("reason", "")), "")

    def seen(self, generation: int) -> bool:
        """Whether it is about the object as it is. (A condition that doesn't say counts as such.)"""
        found = self.conditions.get("Accepted")
        return found is not None and found.get("observedGeneration", generation) >= generation


def parents_of(route: Routed) -> list[str]:
    """The route's parents, for people."""
    return [_words(ref) for ref in _maps(route.spec.get("parentRefs"))]


def answers_of(route: Routed) -> list[Answer]:
    """What has been said of the parents that the route has now. (Of earlier ones something may be left.)"""
    namespace = route.metadata.namespace
    now = {_key(ref, namespace) for ref in _maps(route.spec.get("parentRefs"))}
    return [
        Answer(
            _words(said.get("parentRef") or {}),
            str(said.get("controllerName", "")),
            {str(one.get("type")): one for one in _maps(said.get("conditions"))},
        )
        for said in _maps(route.status.get("parents"))
        if _key(said.get("parentRef") or {}, namespace) in now
    ]


def waiting(route: Routed) -> str:
    """Until when the rules as they are count nowhere or not everywhere, for people; "" once they do."""
    generation = route.metadata.generation
    return "; ".join(_not_yet(answer, generation) for answer in answers_of(route) if _not_yet(answer, generation))


def unseen(route: Routed) -> str:
    """Who hasn't looked at the rules as they are, for people; "" for nobody."""
    generation = route.metadata.generation
    late = [answer.parent for answer in answers_of(route) if not answer.seen(generation)]
    return f"waiting for {some(late)} to take the route" if late else ""


def taken(route: Routed) -> object:
    """Something that changes when an implementation takes the route as it is, or no longer does."""
    return [
        (answer.parent, answer.controller, one.get("type"), one.get("status"), one.get("observedGeneration"))
        for answer in answers_of(route)
        for one in answer.conditions.values()
    ]


def _not_yet(answer: Answer, generation: int) -> str:
    if not answer.seen(generation):
        return f"waiting for {answer.parent} to take the route"
    if answer.detached:
        return ""
    if not answer.accepted:
        return f"{answer.parent} doesn't accept the route: {answer.says('Accepted')}"
    return _incomplete(answer)


def _incomplete(answer: Answer) -> str:
    if answer.status("ResolvedRefs") == "False":
        return f"{answer.parent} can't resolve all of the route's backends: {answer.says('ResolvedRefs')}"
    if answer.status("PartiallyInvalid") == "True":
        return f"{answer.parent} drops some of the route's rules: {answer.says('PartiallyInvalid')}"
    return ""


def unusable(route: Routed) -> tuple[list[str], list[str]]:
    """Errors and warnings in a route's status, before anything was written to it."""
    parents = parents_of(route)
    if not parents:
        return ["has no parentRefs, so no requests come through it: name a Gateway"], []
    generation = route.metadata.generation
    answers = [answer for answer in answers_of(route) if answer.seen(generation)]
    if not answers:
        text = "has answered for it" if generation <= 1 else "has answered for it as it is now"
        return [f"no controller {text}: is there {' or '.join(parents)}, of a class that some controller serves?"], []
    refused = [f"{answer.parent} doesn't accept it: {_why(answer)}" for answer in answers if not answer.accepted]
    if len(refused) == len(answers):
        return refused, []
    missing = [text for answer in answers if answer.accepted and (text := _incomplete(answer))]
    missing = [f"{text} (a ReferenceGrant is missing)" if "RefNotPermitted" in text else text for text in missing]
    return missing, refused


def _why(answer: Answer) -> str:
    said = answer.says("Accepted")
    return f"{answer.detached} ({said})" if answer.detached else said


# --- what implementations can do ---


def controllers_of(route: Routed) -> set[str]:
    """Names of the controllers that serve the route."""
    return {answer.controller for answer in answers_of(route) if answer.accepted}


def lacking(feature: str, controllers: Iterable[str], classes: Mapping[str, GatewayClass]) -> Iterator[str]:
    """Which of the controllers don't say that they have a feature, for people."""
    for controller in sorted(controllers):
        mine = [one for one in classes.values() if one.spec.get("controllerName") == controller]
        said = [one for one in mine if feature in features_of(one)]
        named = " and ".join(f'GatewayClass "{one.metadata.name}"' for one in mine)
        if not mine:
            yield f"no GatewayClass tells whether {controller} has {feature}"
        elif not said:
            yield f"{named} ({controller}) has no {feature}"


def known_to_lack(feature: str, controllers: Iterable[str], classes: Mapping[str, GatewayClass]) -> Iterator[str]:
    """The same, of those whose class lists features at all."""
    known = listing(classes)
    yield from lacking(feature, (name for name in controllers if name in known), classes)


def listing(classes: Mapping[str, GatewayClass]) -> set[str]:
    """Names of the controllers whose class lists features at all."""
    return {str(one.spec.get("controllerName")) for one in classes.values() if features_of(one)}


def features_of(gateway_class: GatewayClass) -> set[str]:
    """Names of supportedFeatures: objects with a name since v1.1, plain names before."""
    found = gateway_class.status.get("supportedFeatures") or ()
    return {str(one.get("name")) if isinstance(one, dict) else str(one) for one in found}


# --- references ---


def _key(ref: dict[str, Any], namespace: str) -> tuple[object, ...]:
    """A parentRef with the API's defaults filled in."""
    return (
        ref.get("group", "gateway.networking.k8s.io"),
        ref.get("kind", "Gateway"),
        ref.get("namespace", namespace),
        ref.get("name"),
        ref.get("sectionName"),
        ref.get("port"),
    )


def _words(ref: dict[str, Any]) -> str:
    where = ref.get("namespace")
    name = f"{where}/{ref.get('name')}" if where else str(ref.get("name"))
    more = [f"{field} {ref[field]}" for field in ("sectionName", "port") if ref.get(field)]
    return f"{ref.get('kind', 'Gateway')} {name}" + (f" ({', '.join(more)})" if more else "")


def _maps(found: Any) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
