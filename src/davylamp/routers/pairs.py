"""What is wrong with the two Deployments of a pair, their Services, and a canary Ingress that is there already."""

from __future__ import annotations

from collections.abc import Iterator

from davylamp.api.objects import Deployment, Service, without_hash
from davylamp.api.problems import Problem
from davylamp.api.types import Pair, ReleasePolicy, Step
from davylamp.api.types import Route as RouteRef
from davylamp.core.names import ROUTED
from davylamp.core.pair_steps import others, part
from davylamp.core.pairs import distinct, excludes, told_apart
from davylamp.core.replicas import NOTICEABLE
from davylamp.routers import senders, workload
from davylamp.routers.decision import PREFIX
from davylamp.routers.ingresses import AFFINITY, places_of
from davylamp.routers.merging import backends
from davylamp.routers.namespace import NamespaceObjects, is_canary, ours
from davylamp.routers.wording import instead, labels, some

TARGET = "spec.target.pair"
CANARY_SERVICE = "spec.traffic.canaryService"

Two = tuple[Deployment, Deployment]


def missing(pair: Pair, objects: NamespaceObjects) -> Iterator[Problem]:
    """Which of the two isn't there."""
    for field, name in (("stable", pair.stable), ("canary", pair.canary)):
        if name not in objects.deployments:
            hint = instead(name, objects.deployments)
            yield Problem(f"{TARGET}.{field}", f'no Deployment "{name}" in {objects.namespace}; {hint}')


def problems_of_two(policy: ReleasePolicy, two: Two, objects: NamespaceObjects) -> Iterator[Problem]:
    """What is wrong with them whatever the traffic. (Recreate is no trouble: versions are in Deployments apart.)"""
    for deployment in two:
        yield from workload.claimed(policy, deployment, objects, TARGET)
    one, other = (deployment.metadata.name for deployment in two)
    if not distinct(*two):
        given = labels(two[0].spec.selector.match_labels)
        yield Problem(
            TARGET,
            f'the pods of Deployments "{one}" and "{other}" can\'t be told apart: no label of '
            f"spec.selector.matchLabels has another value in each ({given}); give each a value of its own, for example "
            "version: v1 and version: v2 (a selector can't be changed, so the Deployment has to be made anew)",
        )
    for deployment in two:
        yield from workload.overlaps(deployment, objects, TARGET)


# --- Services ---


def problems_of_one_service(service: Service, two: Two, objects: NamespaceObjects) -> Iterator[str]:
    """Why the number of pods can't split the requests of a Service: it has to select both Deployments' pods."""
    yield from _fitting(service, two, objects)
    selector, (one, other) = without_hash(service.spec.selector), told_apart(*two)
    alone = [d.metadata.name for d, rest in zip(two, (other, one), strict=True) if excludes(selector, rest)]
    if len(alone) == 1:
        both = one.keys() | other.keys()
        keys = some(key for key in selector if key in both)
        yield (
            f'Service "{service.metadata.name}" selects only the pods of Deployment "{alone[0]}": without a route it '
            f"has to select both's, so take {keys} out of its selector, or name a route in spec.traffic.routes"
        )


def problems_of_routed_service(service: Service, two: Two, objects: NamespaceObjects) -> Iterator[str]:
    """Why a Service can't be one of the two that a route splits between."""
    yield from _fitting(service, two, objects)


def _fitting(service: Service, two: Two, objects: NamespaceObjects) -> Iterator[str]:
    """The type, and what has to be so of the labels besides those that tell the two apart."""
    yield from workload.problems_of_type(service)
    if service.spec.type == "ExternalName" or not without_hash(service.spec.selector):
        return
    name, keys = f'Service "{service.metadata.name}"', {key for side in told_apart(*two) for key in side}
    shared = {key: value for key, value in without_hash(service.spec.selector).items() if key not in keys}
    for deployment in two:
        have = objects.pod_labels_of(deployment)
        wrong = {key: value for key, value in shared.items() if have.get(key) != value}
        if wrong:
            yield (
                f'{name} doesn\'t select the pods of Deployment "{deployment.metadata.name}": it wants '
                f"{labels(wrong)}; it has to be able to select either's, by the labels that tell them apart"
            )
    mine = {deployment.metadata.name for deployment in two}
    selecting = objects.deployments_behind(without_hash(service.spec.selector))
    foreign = [deployment for deployment in selecting if deployment not in mine][:4]
    if foreign:
        yield (
            f"{name} selects pods of other Deployments too ({some(foreign, 3)}), which would get none of its requests "
            "during a release: give it a selector that only the pods of the pair have"
        )


def canary_service(policy: ReleasePolicy, two: Two, objects: NamespaceObjects) -> tuple[str, list[Problem]]:
    """The Service of the canary's own, and what is wrong with it."""
    traffic = policy.spec.traffic
    assert traffic is not None
    named = traffic.canary_service
    if named is None:
        found = _alone(traffic.service or "", two, objects)
        if len(found) == 1:
            return found[0], []
        return "", [Problem(CANARY_SERVICE, _undetected(found, two))]
    service = objects.services.get(named)
    if named == traffic.service:
        text = f'"{named}" is spec.traffic.service as well: a route needs two Services to split between'
        return "", [Problem(CANARY_SERVICE, text)]
    if service is None:
        hint = instead(named, (other.metadata.name for other in objects.services.values() if not ours(other)))
        return "", [Problem(CANARY_SERVICE, f'no Service "{named}" in {objects.namespace}; {hint}')]
    return named, [Problem(CANARY_SERVICE, text) for text in problems_of_routed_service(service, two, objects)]


def _alone(besides: str, two: Two, objects: NamespaceObjects) -> list[str]:
    """Services that select the pods of one of the two, and not of the other."""
    selecting = [{s.metadata.name for s in objects.services_selecting(objects.pod_labels_of(d))} for d in two]
    return sorted(name for name in selecting[0] ^ selecting[1] if name != besides and not ours(objects.services[name]))


def _undetected(found: list[str], two: Two) -> str:
    names = " or ".join(f'"{deployment.metadata.name}"' for deployment in two)
    if found:
        return f"is missing, and several Services select the pods of {names} alone: {some(found)}; name one of them"
    return (
        f"is missing, and no other Service selects the pods of {names} alone: a route needs a Service for each; "
        "make one for the canary, or leave routes out to split by the number of pods"
    )


# --- routes ---


def problems_of_route(
    route: RouteRef, service: str, canary: str, objects: NamespaceObjects
) -> Iterator[tuple[str, str]]:
    """What is wrong about the canary's side of a route: the field below the route, and the text."""
    if route.ingress is not None and route.ingress.canary is not None:
        yield from (("canary", text) for text in _canary_ingress(route, service, canary, objects))
    split = (objects.http_routes.get(route.http_route.name) if route.http_route else None) or (
        objects.grpc_routes.get(route.grpc_route.name) if route.grpc_route else None
    )
    if split is not None and ROUTED not in split.metadata.annotations and canary in senders.services_of(split):
        yield (
            "name",
            f'{type(split).__name__} "{route.name}" sends to Service "{canary}" already: take it out of the rules, '
            f'a release puts it beside "{service}"',
        )


def _canary_ingress(route: RouteRef, service: str, canary: str, objects: NamespaceObjects) -> Iterator[str]:
    assert route.ingress is not None
    assert route.ingress.canary is not None
    name, main = route.ingress.canary, objects.ingresses.get(route.ingress.name)
    found = objects.ingresses.get(name)
    if found is None:
        canaries = [other.metadata.name for other in objects.ingresses.values() if is_canary(other)]
        yield f'no Ingress "{name}" in {objects.namespace}; {instead(name, canaries)}'
        return
    if not is_canary(found):
        yield f'Ingress "{name}" is no canary: it has no annotation {PREFIX}canary: "true"'
    if main is None:
        return
    if main.class_name != found.class_name:
        yield f'Ingress "{name}" has class "{found.class_name}", and Ingress "{route.name}" has "{main.class_name}"'
    elsewhere = {upstream.service for _, upstream in backends(found)} - {canary}
    if elsewhere:
        yield f'Ingress "{name}" sends to Service {some(elsewhere)}, not only to the canary\'s, "{canary}"'
    there = {place for place, _ in backends(found)}
    lacking = [str(place) for place, _ in places_of(main, service) if place not in there]
    if lacking:
        yield (
            f'Ingress "{name}" lacks {some(lacking)} of Ingress "{route.name}": host, path and pathType have to be the '
            "same"
        )
    if main.metadata.annotations.get(AFFINITY) == "cookie":
        yield (
            f'Ingress "{route.name}" has {AFFINITY}: cookie, which pins clients to the canary until its Ingress is '
            "deleted: leave canary out, so that a release makes one and deletes it"
        )


# --- pods ---


def problems_of_steps(steps: tuple[Step, ...], total: int) -> Iterator[Problem]:
    """Weights that so many pods can't give (half a percentage point off, or more)."""
    for index, step in enumerate(steps):
        if not 0 < step.weight < 100 or total <= 0:
            continue
        try:
            pods = part(step, total)
        except ValueError:
            continue
        all_of_them = pods + others(step, total, pods)
        reached = 100 * pods / all_of_them
        if abs(reached - step.weight) >= NOTICEABLE:
            yield Problem(
                f"spec.steps[{index}].weight",
                f"{step.weight} % can't be reached with {total} pods altogether: the nearest is {reached:.1f} % "
                f"({pods} of {all_of_them}); a route (spec.traffic.routes) splits by any weight",
                warning=True,
            )
