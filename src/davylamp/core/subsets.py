"""Splitting by subsets: the user's Service offers the pods of both versions, and the route tells them apart.

Where each version has a Service of its own, the user's is pinned to the stable pods all the time. Here it can't be.
So it is pinned until requests are known to go to the stable subset only, and let go before any is sent to the
canary's. On the way back they go to the stable subset again until the canary's pods are gone, and for all of the
traffic the route sends everything to the canary's subset before the Service is moved. No subset is named without
ready pods, and none before its DestinationRule is in effect.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from davylamp.core.actions import Action, Ref
from davylamp.core.case import Case
from davylamp.core.routing import rerouted, unconverged
from davylamp.core.world import Exposure

STABLE_ONLY = Exposure(0)


class Unready(msgspec.Struct, frozen=True):
    """What is missing: what to write, what is waited for, and until when."""

    message: str
    actions: tuple[Action, ...] = ()
    wake_at: datetime | None = None


def opened(case: Case, pods: int, now: datetime) -> Unready | None:
    """Requests go to subsets only, and the Services offer both versions' pods."""
    held = [service.metadata.name for service in case.services if case.selected_by(service) == "stable"]
    if held:
        text = f"letting Service {', '.join(held)} offer both versions' pods"
        return written(case, STABLE_ONLY, now) or Unready(text, case.select(None))
    for service in case.services:
        seen = case.ready_endpoints(service.metadata.name)
        if seen < pods:
            return Unready(f"{seen} of {pods} canary pods in the endpoints of Service {service.metadata.name}")
    return _known(case, now)


def everything(case: Case, pods: int, now: datetime) -> Unready | None:
    """All requests go to the canary's subset, so that the Services can be moved."""
    return opened(case, pods, now) or written(case, Exposure(100), now)


def barred(case: Case) -> str:
    """Why requests for the subsets fail now, by what others have changed; "" where they don't."""
    found = (route.barred(case.context(route)) for route in case.world.routes) if case.by_subsets else ()
    return "; ".join(filter(None, found))


def failing(case: Case) -> tuple[Action, ...]:
    """What gives the routes back where they fail requests."""
    return rerouted(case, None) if barred(case) else ()


def away(case: Case, now: datetime) -> Unready | None:
    """No request goes to the canary's subset any more."""
    if barred(case):
        return _without(case, now)
    if any(case.selected_by(service) == "canary" for service in case.services):
        return Unready("letting the Services offer both versions' pods", case.select(None))
    if case.services and all(case.selected_by(service) == "stable" for service in case.services):
        return None  # it never got any
    ready = case.stable.status.ready_replicas if case.stable is not None else 0
    for service in case.services if ready else ():
        if not case.other_endpoints(service.metadata.name):
            return Unready(f"no stable pod is in the endpoints of Service {service.metadata.name} yet")
    return _known(case, now) or written(case, STABLE_ONLY, now)


def _without(case: Case, now: datetime) -> Unready | None:
    """The same where no subset may be named: the routes as the user wrote them, then the Services on stable's pods."""
    at = case.settled(*(ref for route in case.world.routes for ref in route.refs))
    if at > now:
        return Unready("the route without subsets is given time to take effect", wake_at=at)
    pinned = case.select("stable")
    if pinned:
        return Unready("moving the Services to the stable pods", pinned)
    for service in case.services:
        left = case.ready_endpoints(service.metadata.name)
        if left:
            return Unready(f"{left} canary pods are still in the endpoints of Service {service.metadata.name}")
    return _known(case, now)


def written(case: Case, wanted: Exposure, now: datetime) -> Unready | None:
    """The routes say so, and have for the settling time."""
    actions = rerouted(case, wanted)
    if actions:
        return Unready(f"setting the subsets to {wanted.weight} %", actions)
    waiting = unconverged(case, wanted)
    if waiting:
        return Unready(waiting)
    at = case.settled(*(ref for route in case.world.routes for ref in route.refs))
    return Unready(f"{wanted.weight} % of the subsets is given time to take effect", wake_at=at) if at > now else None


def _known(case: Case, now: datetime) -> Unready | None:
    """Proxies have had time to learn of the Services' pods."""
    refs: list[Ref] = [case.ref("Service", service.metadata.name) for service in case.services]
    at = case.settled(*refs)
    return Unready("proxies are given time to learn of the pods", wake_at=at) if at > now else None
