"""What a policy means for a Deployment in the cluster as it is, and everything that is wrong with it, at once.

`resolve` is asked for each workload on each change, so it costs time only for the few objects around that workload
(`NamespaceObjects` finds them). `review` is the whole policy with all its targets, for its conditions. `bind` makes
the routers of a release.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from davylamp.api.objects import Deployment, Service
from davylamp.api.problems import Problem
from davylamp.api.types import Found, Pair, ReleasePolicy
from davylamp.api.types import Route as RouteRef
from davylamp.api.types import Traffic as TrafficGiven
from davylamp.api.units import count, seconds
from davylamp.core.names import canary_service
from davylamp.core.replicas import problems_of_steps
from davylamp.core.world import Exposure, Route, Traffic
from davylamp.routers import pairs, workload
from davylamp.routers.namespace import NamespaceObjects, ours
from davylamp.routers.policy import (
    chosen_without_route,
    is_switched,
    no_extra_pods,
    pods_without_traffic,
    problems_of_policy,
    way_of,
)
from davylamp.routers.registry import ROUTERS, router_of
from davylamp.routers.router import Findings
from davylamp.routers.wording import labels, some

DETECT = "spec.traffic.detect"


class Resolution(msgspec.Struct, frozen=True):
    """A policy's meaning for one Deployment. With an error among `problems` no release may start."""

    traffic: Traffic
    """What exists and fits; names that don't are left out."""
    problems: tuple[Problem, ...]
    """All of them, also those of the policy itself."""
    found: Found
    """The same as `traffic`, for the policy's status."""

    @property
    def usable(self) -> bool:
        return all(problem.warning for problem in self.problems)


def resolve(policy: ReleasePolicy, deployment: Deployment | None, objects: NamespaceObjects) -> Resolution:
    """What `policy` means for `deployment` (None: the one that it names isn't there)."""
    problems = list(problems_of_policy(policy))
    if policy.spec.target.pair is not None:
        service, canary, routes, found = _pair(policy, policy.spec.target.pair, objects)
        return _resolution(policy, policy.spec.target.workload, service, routes, problems + found, canary)
    if deployment is None:
        problems += workload.missing_target(policy, objects)
        return _resolution(policy, policy.spec.target.name or "", (), (), problems)
    services, routes, found = _target(policy, deployment, objects)
    return _resolution(policy, deployment.metadata.name, services, routes, problems + found)


def review(policy: ReleasePolicy, objects: NamespaceObjects) -> tuple[Problem, ...]:
    """Everything that is wrong with a policy and with all its targets, each problem once."""
    problems = list(problems_of_policy(policy))
    if policy.spec.target.pair is not None:
        return _once(problems + _pair(policy, policy.spec.target.pair, objects)[3])
    targets = objects.targets_of(policy)
    if not targets:
        problems += workload.missing_target(policy, objects)
    for deployment in targets:
        problems += _target(policy, deployment, objects)[2]
    return _once(problems)


def bind(traffic: Traffic, objects: NamespaceObjects) -> tuple[Route, ...]:
    """The routes of a release, with the objects as they are now: also those that are gone meanwhile."""
    services = traffic.all_services
    return tuple(b for route in traffic.routes for b in _bound(route, services, objects, traffic.canary_service))


def _resolution(
    policy: ReleasePolicy,
    name: str,
    services: tuple[str, ...],
    routes: tuple[RouteRef, ...],
    problems: list[Problem],
    canary: str = "",
) -> Resolution:
    given = policy.spec.traffic
    first = services[0] if services else ""
    preview = given.preview.service if given is not None and given.preview is not None and services else ""
    traffic = Traffic(first, routes if services else (), services=services[: len(services) * (len(services) > 1)])
    traffic = msgspec.structs.replace(traffic, preview=preview, canary_service=canary)
    if given is not None and not any(problem.path == "spec.traffic.settle" for problem in problems):
        traffic = msgspec.structs.replace(traffic, settle_seconds=seconds(given.settle))
    found = Found(deployment=name, service=traffic.service, routes=traffic.routes, services=traffic.services)
    return Resolution(traffic, _once(problems), found)


def _once(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(dict.fromkeys(problems))


# --- one Deployment ---


def _target(
    policy: ReleasePolicy, deployment: Deployment, objects: NamespaceObjects
) -> tuple[tuple[str, ...], tuple[RouteRef, ...], list[Problem]]:
    """The Services, the routes, and what is wrong about this Deployment and them."""
    problems = list(workload.problems_of_deployment(policy, deployment, objects))
    traffic = policy.spec.traffic
    services: tuple[str, ...] = ()
    routes: tuple[RouteRef, ...] = ()
    if traffic is not None and traffic.detect:
        service, routes = _detected(deployment, objects, problems)
        services = (service,) if service else ()
    elif traffic is not None and traffic.names:
        services = _named_services(traffic, deployment, objects, problems)
        routes = _named_routes(policy, traffic.names, objects, problems)
        problems += workload.problems_of_preview(traffic, deployment, objects)
        problems += workload.unnamed_services(traffic, deployment, objects) if services else ()
    problems += _pods(policy, deployment, services, routed=bool(routes))
    for route in routes:
        for bound in _bound(route, services, objects):
            problems += _refused(policy, bound)
    return services, routes, problems


def _pair(
    policy: ReleasePolicy, pair: Pair, objects: NamespaceObjects
) -> tuple[tuple[str, ...], str, tuple[RouteRef, ...], list[Problem]]:
    """The two Services (one without routes), the routes, and what is wrong about the two Deployments and them."""
    problems = list(pairs.missing(pair, objects))
    one, other = objects.deployments.get(pair.stable), objects.deployments.get(pair.canary)
    traffic = policy.spec.traffic
    if one is None or other is None or one is other:
        return (), "", (), problems
    two = (one, other)
    problems += pairs.problems_of_two(policy, two, objects)
    if traffic is None or not traffic.service or not traffic.routes:
        problems += pairs.problems_of_steps(policy.spec.steps, one.spec.replicas + other.spec.replicas)
    if traffic is None or not traffic.service or traffic.detect:
        return (), "", (), problems
    service = _service_of_pair(traffic.service, two, objects, problems, routed=bool(traffic.routes))
    if not traffic.routes:
        return service, "", (), problems
    canary, found = pairs.canary_service(policy, two, objects)
    routes = _named_routes(policy, (traffic.service,), objects, problems)
    for index, route in enumerate(traffic.routes) if canary else ():
        router = router_of(route)
        path = f"spec.traffic.routes[{index}].{router.field if router is not None else ''}"
        texts = pairs.problems_of_route(route, traffic.service, canary, objects)
        problems += (Problem(f"{path}.{field}", text) for field, text in texts)
    for bound in (b for route in routes for b in _bound(route, (traffic.service,), objects, canary)):
        problems += _refused(policy, bound)
    return service, canary, routes, problems + found


def _service_of_pair(
    name: str, two: pairs.Two, objects: NamespaceObjects, problems: list[Problem], *, routed: bool
) -> tuple[str, ...]:
    service = objects.services.get(name)
    if service is None:
        problems.append(workload.missing_service(workload.SERVICE, name, two[0], objects))
        return ()
    check = pairs.problems_of_routed_service if routed else pairs.problems_of_one_service
    wrong = list(check(service, two, objects))
    problems += (Problem(workload.SERVICE, text) for text in wrong)
    return () if wrong else (name,)


def _refused(policy: ReleasePolicy, route: Route) -> Iterator[Problem]:
    """What steps ask of a route that it can't do, at the fields that ask for it."""
    spec = policy.spec
    everywhere = spec.traffic.match if spec.traffic is not None else ()
    for number, step in enumerate(spec.steps):
        for refusal in route.refusals(Exposure(step.weight, (*everywhere, *step.match), step.mirror or 0)):
            where = f"spec.steps[{number}]"
            if refusal.match is not None and refusal.match < len(everywhere):
                where = f"spec.traffic.match[{refusal.match}]"
            elif refusal.match is not None:
                where += f".match[{refusal.match - len(everywhere)}]"
            path = f"{where}.{refusal.field}" if refusal.field else where
            yield Problem(path, f"{route.name}: {refusal.message}")


def _pods(
    policy: ReleasePolicy, deployment: Deployment, services: tuple[str, ...], *, routed: bool
) -> Iterator[Problem]:
    """What the number of pods can't do, where it splits the traffic."""
    spec, n = policy.spec, deployment.spec.replicas
    if routed or (spec.traffic is not None and spec.traffic.routes):
        return
    yield from problems_of_steps(spec.steps, n, spec.max_extra_pods, routed=False)
    try:
        cap = count(spec.max_extra_pods, n)
    except ValueError:
        return
    if services and spec.traffic is not None and spec.traffic.detect:
        yield from pods_without_traffic(spec)
        yield from chosen_without_route(spec)
        if count(spec.max_extra_pods, 100) == 0:
            yield no_extra_pods(spec.max_extra_pods)
    full = is_switched(spec)
    for path, step in way_of(spec):
        held = step.hold is not None or step.approve or full or spec.keep_old is not None
        if services and step.weight == 100 and held and 0 < cap < n:
            yield Problem(
                path,
                f'100 % needs as many canary pods as Deployment "{deployment.metadata.name}" has, {n}, '
                f"more than maxExtraPods allows ({cap}): nothing can be held there. Put hold or approve on the step "
                f'before, or set maxExtraPods: "100%"',
            )


# --- named ---


def _named_services(
    traffic: TrafficGiven, deployment: Deployment, objects: NamespaceObjects, problems: list[Problem]
) -> tuple[str, ...]:
    """Those that fit; none where one of them doesn't, since all of them are moved together."""
    fitting: list[str] = []
    for index, name in enumerate(traffic.names):
        path = workload.SERVICE if traffic.service else f"{workload.SERVICE}s[{index}]"
        service = objects.services.get(name)
        if service is None:
            problems.append(workload.missing_service(path, name, deployment, objects))
            continue
        wrong = list(workload.problems_of_service(service, deployment, objects))
        problems += (Problem(path, text) for text in (*wrong, *workload.taken_service(name, objects)))
        fitting += [] if wrong else [name]
    return tuple(fitting) if len(fitting) == len(traffic.names) else ()


def _named_routes(
    policy: ReleasePolicy, services: tuple[str, ...], objects: NamespaceObjects, problems: list[Problem]
) -> tuple[RouteRef, ...]:
    traffic = policy.spec.traffic
    fitting: list[RouteRef] = []
    named: set[tuple[str, str]] = set()
    known = tuple(service for service in services if service in objects.services)
    for index, route in enumerate(traffic.routes if traffic is not None else ()):
        router = router_of(route)
        if router is None or not route.name or (router.kind, route.name) in named:
            continue
        path = f"spec.traffic.routes[{index}].{router.field}.name"
        named.add((router.kind, route.name))
        exists = router.exists(route.name, objects)
        if not exists:
            problems.append(Problem(path, router.missing(route.name, services[0], objects)))
        if not exists or not known:
            continue  # a Service that isn't there was told; that nothing sends to it follows from that
        found = [router.problems(route, service, objects) for service in _sent_to(route, known, objects)]
        problems += (problem for one in found for problem in _as_problems(path, one))
        if not any(one.errors for one in found):
            fitting.append(route)
    if fitting:
        open_ = any(route.by_subsets for route in fitting)
        problems += (problem for service in services for problem in _unsplit(service, named, objects, open_))
    return tuple(fitting)


def _sent_to(route: RouteRef, services: tuple[str, ...], objects: NamespaceObjects) -> tuple[str, ...]:
    """Those of several Services that a route has to do with. The first where it has to do with none: so that is told,
    before a release and in one."""
    router = router_of(route)
    if router is None or len(services) < 2:
        return services
    return tuple(one for one in services if router.sends(route.name, one, objects)) or services[:1]


def _as_problems(path: str, found: Findings) -> Iterator[Problem]:
    yield from (Problem(path, text) for text in found.errors)
    yield from (Problem(path, text, warning=True) for text in found.warnings)


def _unsplit(
    service: str, named: set[tuple[str, str]], objects: NamespaceObjects, open_: bool = False
) -> Iterator[Problem]:
    """`open_` tells that the Service itself has the pods of both versions during a release."""
    where = "reach both versions, by the number of pods" if open_ else "stay on the stable pods until the last step"
    for router in ROUTERS:
        split = [name for kind, name in named if kind == router.kind]
        for other in router.unsplit(split, service, objects):
            yield Problem(
                "spec.traffic.routes",
                f'{router.kind} "{other}" sends to Service "{service}" too and is not split: its requests {where}',
                warning=True,
            )


# --- detected ---


def _detected(
    deployment: Deployment, objects: NamespaceObjects, problems: list[Problem]
) -> tuple[str | None, tuple[RouteRef, ...]]:
    """The one Service that selects this Deployment's pods and no others, and the routes that send to it."""
    name = deployment.metadata.name
    pod_labels = dict(objects.pod_labels_of(deployment))
    candidates = [service for service in objects.services_selecting(pod_labels) if not ours(service)]
    fitting: list[Service] = []
    wrong: list[str] = []
    for service in candidates:
        reasons = list(workload.problems_of_service(service, deployment, objects))
        wrong += reasons
        if not reasons:
            fitting.append(service)
    if len(fitting) != 1:
        problems += _undetected(name, pod_labels, [s.metadata.name for s in fitting], wrong)
        return None, ()
    service_name = fitting[0].metadata.name
    problems += (Problem(DETECT, text) for text in workload.taken_service(service_name, objects))
    return service_name, _detected_routes(service_name, objects, problems)


def _undetected(name: str, pod_labels: dict[str, str], fitting: list[str], wrong: list[str]) -> Iterator[Problem]:
    if fitting:
        yield Problem(
            DETECT,
            f'Deployment "{name}" is behind several Services: {some(fitting)}; '
            "give it a policy of its own that names all of them in traffic.services",
        )
    elif wrong:
        yield Problem(DETECT, f'no Service fits Deployment "{name}": {"; ".join(wrong)}')
    else:
        yield Problem(
            DETECT,
            f'no Service selects the pods of Deployment "{name}" ({labels(pod_labels)}): '
            "leave traffic out for a workload without one",
        )


def _detected_routes(service: str, objects: NamespaceObjects, problems: list[Problem]) -> tuple[RouteRef, ...]:
    """Everything that can be split, of whatever kind."""
    split: list[RouteRef] = []
    for router in ROUTERS:
        candidates, others = router.detect(service, objects)
        problems += (Problem(DETECT, text, warning=True) for text in others)
        for name in candidates:
            found = router.problems(router.ref(name), service, objects)
            problems += _as_problems(DETECT, found)
            if not found.errors:
                split.append(router.ref(name))
    return tuple(split)


def _bound(route: RouteRef, services: tuple[str, ...], objects: NamespaceObjects, canary: str = "") -> Iterator[Route]:
    """One for each Service that the route sends to. `canary` is the Service of a pair's canary."""
    router = router_of(route)
    if router is not None:
        for service in _sent_to(route, services, objects):
            yield router.bind(route, service, canary or canary_service(service), objects)
