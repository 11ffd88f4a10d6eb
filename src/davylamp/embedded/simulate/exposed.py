"""How much of the traffic reaches the new version, as routes, Services and endpoints are."""

from __future__ import annotations

from davylamp.core import names
from davylamp.core.case import Case


def mirrored_of(case: Case) -> float:
    """Of stable's requests the part, 0 to 1, that routes copy to the canary now."""
    found = [route.effective(case.context(route)) for route in case.world.routes]
    return max((one.mirror / 100 for one in found if one is not None), default=0.0)


def share_of(case: Case, testers: float) -> float:
    """The share of the requests, 0 to 1, that reaches the canary as routes, Services and endpoints are now. Several
    routes are taken to get the same number of requests each; where there is no Service, each ready pod gets as much.
    """
    spec, world = case.release.spec, case.world
    if not spec.service:
        new = sum(pod.ready for pod in case.living_pods)
        old = case.stable.status.ready_replicas if case.stable is not None else 0
        return new / (new + old) if new else 0.0
    canary = {pod.metadata.name for pod in world.pods or ()}
    main = world.endpoints.get(spec.service, frozenset())
    through_main = len(main & canary) / len(main) if main else 0.0
    if case.by_subsets and 0 < through_main < 1:
        through_main = 0.0  # the Service offers both versions' pods only while the routes tell them apart
    elif not world.endpoints.get(spec.canary_service or names.canary_service(spec.service)) or not world.routes:
        return through_main
    aside = 0.0
    for route in world.routes:
        exposure = route.effective(case.context(route))
        if exposure is not None:
            chosen = testers if exposure.match else 0.0
            aside += (chosen + (1 - chosen) * exposure.weight / 100) / len(world.routes)
    return aside + (1 - aside) * through_main
