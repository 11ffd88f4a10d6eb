"""What is wrong with a policy in itself, whatever there is in the cluster."""

from __future__ import annotations

from collections.abc import Iterator

from davylamp.api import analysis
from davylamp.api.problems import Problem
from davylamp.api.types import ReleasePolicy, ReleasePolicySpec, Step, Target, Traffic
from davylamp.api.units import count, seconds
from davylamp.core.names import canary_service
from davylamp.core.switching import all_or_nothing, waits
from davylamp.routers.matches import problems_of_match


def problems_of_policy(policy: ReleasePolicy) -> Iterator[Problem]:
    """All of them at once, in the order of the fields."""
    spec = policy.spec
    yield from _target(spec.target, policy.metadata.namespace)
    yield from _of_pair(spec)
    yield from _steps(spec)
    if spec.traffic is not None:
        yield from _traffic(spec.traffic, spec.target)
        if spec.traffic.names and not spec.traffic.routes and not spec.traffic.detect:
            yield from pods_without_traffic(spec)
            yield from chosen_without_route(spec)
    else:
        yield from _without_service(spec) if spec.target.pair is None else ()
        yield from chosen_without_route(spec)
    yield from _afterwards(spec)
    if spec.analysis is not None:
        yield from analysis.review(spec.analysis)
        yield from _unsupported(spec.analysis)
    if spec.progress_deadline is not None:
        yield from _duration("spec.progressDeadline", spec.progress_deadline, positive=True)
    yield from _max_extra_pods(policy)
    if not 1 <= spec.history_limit <= 100:
        yield Problem("spec.historyLimit", f"{spec.history_limit} is outside 1..100")


def is_routed(policy: ReleasePolicy) -> bool:
    """True if the policy itself asks for routes (detection may find some as well)."""
    traffic = policy.spec.traffic
    return traffic is not None and bool(traffic.routes)


def is_switched(spec: ReleasePolicySpec) -> bool:
    """True for blue/green without a route, where the Service's own selector decides."""
    traffic = spec.traffic
    if traffic is None or traffic.routes:
        return False
    services = ("",) if traffic.detect else traffic.names
    preview = traffic.preview.service if traffic.preview is not None else ""
    return all_or_nothing(spec.way, services=services, routed=False, preview=preview)


def way_of(spec: ReleasePolicySpec) -> Iterator[tuple[str, Step]]:
    """The steps of a release, each with the path of its weight."""
    for index, step in enumerate(spec.way):
        yield (f"spec.steps[{index}].weight" if index < len(spec.steps) else "spec.bake"), step


def _target(target: Target, namespace: str) -> Iterator[Problem]:
    given = [field for field in ("name", "matchLabels", "pair") if _given(target, field)]
    ways = "name for one Deployment, matchLabels for all Deployments with these labels, or pair for two that take turns"
    if len(given) > 1:
        named = f' ("{target.name}")' if target.name else ""
        both = "both " if len(given) == 2 else ""
        listed = " and ".join(f"{field}{named if field == 'name' else ''}" for field in given)
        yield Problem("spec.target", f"has {both}{listed}: give {ways}")
    elif target.match_labels == {}:
        yield Problem(
            "spec.target.matchLabels",
            f"is empty, which would be every Deployment in {namespace}: give at least one label, "
            "for example {tier: frontend}",
        )
    elif not given:
        yield Problem("spec.target", f"names no Deployment: give {ways}")
    if target.pair is not None and target.pair.stable == target.pair.canary:
        yield Problem(
            "spec.target.pair.canary", f'"{target.pair.canary}" is the stable one as well: a pair is two Deployments'
        )


def _by_subsets(traffic: Traffic) -> Iterator[Problem]:
    """Then the Service offers both versions' pods, so every request for it has to come through such a route."""
    if not any(route.by_subsets for route in traffic.routes):
        return
    for index, route in enumerate(traffic.routes):
        path = f"spec.traffic.routes[{index}]"
        if not route.by_subsets:
            yield Problem(
                path,
                "isn't split by subsets, and another route is: the Service then has the pods of both versions, which "
                "only subsets tell apart; split all routes by subsets, or none",
            )
        elif route.virtual_service is not None and route.virtual_service.routes:
            yield Problem(
                f"{path}.virtualService.routes",
                "leaves HTTP routes out, which would reach both versions' pods: leave it out, or subsets",
            )


def _given(target: Target, field: str) -> bool:
    values = {"name": target.name or None, "matchLabels": target.match_labels, "pair": target.pair}
    return values[field] is not None


def _of_pair(spec: ReleasePolicySpec) -> Iterator[Problem]:
    """What makes sense for a pair only, and what doesn't make any for one."""
    traffic = spec.traffic
    given = [index for index, r in enumerate(traffic.routes if traffic else ()) if r.ingress and r.ingress.canary]
    if spec.target.pair is None:
        if traffic is not None and traffic.canary_service:
            text = "is only for a pair (spec.target.pair): for one Deployment a release makes the canary's Service"
            yield Problem("spec.traffic.canaryService", text)
        for index in given:
            text = "is only for a pair (spec.target.pair): for one Deployment a release makes the canary Ingress"
            yield Problem(f"spec.traffic.routes[{index}].ingress.canary", text)
        return
    if traffic is not None and traffic.detect:
        text = "finds no Services for a pair: name the one of the stable Deployment (or of both) in service"
        yield Problem("spec.traffic.detect", text)
    if traffic is not None and traffic.canary_service and not traffic.routes:
        text = "needs a route: without one the requests of spec.traffic.service go to the pods of both Deployments"
        yield Problem("spec.traffic.canaryService", text)
    for index, route in enumerate(traffic.routes if traffic is not None else ()):
        if route.by_subsets:
            text = "a pair has a Service for each version, which needs no subsets: leave it out"
            yield Problem(f"spec.traffic.routes[{index}].virtualService.subsets", text)
    if traffic is not None and traffic.services:
        text = "a pair has one Service that serves: name it in service"
        yield Problem("spec.traffic.services", text)
    if traffic is not None and traffic.preview is not None:
        text = (
            "the canary of a pair has a Service of its own (canaryService), which is there all the time: leave it out"
        )
        yield Problem("spec.traffic.preview", text)
    if spec.keep_old is not None:
        text = (
            "of a pair both Deployments stay, and the one that served before gets as many pods as the other one had "
            "when it was idle: leave keepOld out, or use bake for a way back at once"
        )
        yield Problem("spec.keepOld", text)
    if spec.on_failure == "revert":
        text = (
            "revert puts stable's template back into the Deployment that has both versions; of a pair the rejected one "
            "stays in the idle Deployment and gets no requests: leave onFailure out"
        )
        yield Problem("spec.onFailure", text)


# --- steps ---


def _steps(spec: ReleasePolicySpec) -> Iterator[Problem]:
    steps, traffic = spec.steps, spec.traffic
    everywhere = traffic.match if traffic is not None else ()
    waiting = bool(everywhere) or (traffic is not None and traffic.preview is not None)
    if not steps:
        yield Problem(
            "spec.steps", "is empty: give at least one step, for example [{weight: 10, hold: 10m}, {weight: 100}]"
        )
        return
    for index, step in enumerate(steps):
        path = f"spec.steps[{index}]"
        yield from _weight(f"{path}.weight", step, steps[index - 1] if index else None, waiting)
        for number, match in enumerate(step.match):
            yield from problems_of_match(f"{path}.match[{number}]", match)
        if step.mirror is not None and not 0 <= step.mirror <= 100:
            yield Problem(f"{path}.mirror", f"{step.mirror} is outside 0..100")
        if step.hold is not None:
            yield from _duration(f"{path}.hold", step.hold)
        if step.replicas is not None:
            yield from _replicas(f"{path}.replicas", step)
        if step.compare:
            yield from _compared(f"{path}.compare", step, spec)
    last = spec.way[-1].weight
    if 0 <= last < 100:
        yield Problem(
            f"spec.steps[{len(steps) - 1}].weight",
            f"the last step is {last} %; when it is over, promotion follows directly, from {last} % to all. "
            "Add {weight: 100, hold: 10m} to watch the new version alone before the old pods go",
            warning=True,
        )


def _compared(path: str, step: Step, spec: ReleasePolicySpec) -> Iterator[Problem]:
    """A verdict needs an analysis, and requests for both versions."""
    chosen = step.match or step.mirror or (spec.traffic is not None and spec.traffic.match)
    if spec.analysis is None:
        yield Problem(path, "needs an analysis, which compares the two versions: write spec.analysis, for example {}")
    elif step.weight == 100:
        yield Problem(path, "at 100 % the old version gets no requests to compare with: leave compare out")
    elif step.weight == 0 and not chosen:
        yield Problem(path, "at 0 % without a match the new version gets no requests to compare: give the step a match")


def _weight(path: str, step: Step, before: Step | None, chosen: bool) -> Iterator[Problem]:
    """Weights rise strictly, as the CRD's own rule has it: what else a step can do fits into one step. Only where
    other requests are chosen may the weight stay. `chosen` tells that `traffic.match` sends some in every step."""
    weight = step.weight
    if not 0 <= weight <= 100:
        yield Problem(path, f"{weight} is outside 0..100")
        return
    if before is not None and 0 <= before.weight <= 100:
        together = " (hold and approve can be in one step)" if weight == before.weight else ""
        more = step.match != before.match or step.mirror != before.mirror
        if weight < before.weight or (weight == before.weight and not more):
            yield Problem(path, f"{weight} comes after {before.weight}; weights must rise{together}")
    if weight == 0 and step.replicas is None and not (step.match or step.mirror or chosen):
        yield Problem(
            path,
            "0 sends nothing to the canary, and starts no pods: leave the step out, or give it replicas "
            "to see the pods start before they get traffic",
            warning=True,
        )


def _replicas(path: str, step: Step) -> Iterator[Problem]:
    value = step.replicas
    assert value is not None
    try:
        pods = count(value, 100)
    except ValueError as error:
        yield Problem(path, str(error))
        return
    if pods < 0:
        yield Problem(path, f"{value} is below 0")
    elif pods == 0 and step.weight > 0:
        yield Problem(path, f"{value} is no canary pod at all for {step.weight} % of the traffic: give at least 1")


# --- traffic ---


def _traffic(traffic: Traffic, target: Target) -> Iterator[Problem]:
    if traffic.detect:
        named = (
            ("service", traffic.service),
            ("services", traffic.services),
            ("preview", traffic.preview),
            ("routes", traffic.routes),
        )
        given = [name for name, value in named if value]
        if given:
            yield Problem(
                "spec.traffic.detect",
                f"finds the Service and the routes by itself, and {' and '.join(given)} "
                f"{'is' if given in (['service'], ['preview']) else 'are'} given too: leave out one or the other",
            )
    elif traffic.routes and not traffic.names:
        yield Problem("spec.traffic.service", "is missing: routes split the traffic of one Service, so name it")
    elif not traffic.names:
        yield Problem(
            "spec.traffic",
            "names no Service: give service, or detect: true, or leave traffic out for a workload without a Service",
        )
    if traffic.names and target.match_labels is not None and not traffic.detect:
        yield Problem(
            "spec.traffic.service",
            f'"{traffic.names[0]}" would be the Service of every Deployment that matchLabels finds: '
            "with matchLabels use traffic: {detect: true}, which finds each one's own",
        )
    yield from _services(traffic)
    yield from _routes(traffic)
    yield from _by_subsets(traffic)
    for index, match in enumerate(traffic.match):
        yield from problems_of_match(f"spec.traffic.match[{index}]", match)
    yield from _duration("spec.traffic.settle", traffic.settle)


def _services(traffic: Traffic) -> Iterator[Problem]:
    """Several Services, and the testers' own."""
    if traffic.service and traffic.services:
        yield Problem("spec.traffic.services", f'service ("{traffic.service}") is given too: name all in services')
    elif len(traffic.services) == 1:
        yield Problem("spec.traffic.services", f"has one name only: write service: {traffic.services[0]}")
    for index, name in enumerate(traffic.services):
        if name in traffic.services[:index]:
            yield Problem(f"spec.traffic.services[{index}]", f'"{name}" is named twice')
    if traffic.preview is None:
        return
    path, name = "spec.traffic.preview.service", traffic.preview.service
    if not name:
        yield Problem(path, "is empty: give the name of a Service for testers, for example web-preview")
    elif name in traffic.names:
        yield Problem(
            path, f'"{name}" is the users\' own Service: give testers another one, for example {name}-preview'
        )
    elif name in map(canary_service, traffic.names):
        yield Problem(path, f'"{name}" is the name of a Service that each release makes for itself: choose another one')


def pods_without_traffic(spec: ReleasePolicySpec) -> Iterator[Problem]:
    """Steps with pods but weight 0, which without a route only an all-or-nothing release can do."""
    if is_switched(spec):
        return
    preview = spec.traffic.preview.service if spec.traffic is not None and spec.traffic.preview is not None else ""
    for index, step in enumerate(spec.steps):
        if waits(step, preview):
            pods = f"{step.replicas} canary pods" if step.replicas is not None else "canary pods"
            yield Problem(
                f"spec.steps[{index}].weight",
                f"0 % can't be had with {pods}: without a route every ready pod gets its share. "
                "Leave the step out, go from 0 to 100 at once, or split by a route",
            )


def chosen_without_route(spec: ReleasePolicySpec) -> Iterator[Problem]:
    """Requests can be chosen only where something looks at them."""
    fields = ["spec.traffic.match"] if spec.traffic is not None and spec.traffic.match else []
    for index, step in enumerate(spec.steps):
        fields += [f"spec.steps[{index}].match"] if step.match else []
        fields += [f"spec.steps[{index}].mirror"] if step.mirror else []
    for field in fields:
        yield Problem(
            field,
            "needs a route: without one, requests go to any pod of the Service. Name one in spec.traffic.routes, "
            "for example {ingress: {name: web}}",
        )


def _routes(traffic: Traffic) -> Iterator[Problem]:
    seen: set[tuple[str, str]] = set()
    for index, route in enumerate(traffic.routes):
        path = f"spec.traffic.routes[{index}]"
        given = {
            "ingress": route.ingress,
            "httpRoute": route.http_route,
            "grpcRoute": route.grpc_route,
            "virtualService": route.virtual_service,
        }
        fields = [field for field, value in given.items() if value is not None]
        if len(fields) > 1:
            yield Problem(path, f"names {' and '.join(fields)}: give each an entry of its own")
        elif not fields or not route.name:
            yield Problem(path, "names nothing: give an Ingress, for example {ingress: {name: web}}")
        elif (fields[0], route.name) in seen:
            yield Problem(f"{path}.{fields[0]}.name", f'"{route.name}" is named twice')
        else:
            seen.add((fields[0], route.name))


def _without_service(spec: ReleasePolicySpec) -> Iterator[Problem]:
    """Without a Service the weight is a number of pods, so all pods are the promotion."""
    for path, step in way_of(spec):
        if step.weight == 100 and (step.hold is not None or step.approve):
            what = " and ".join(
                name for name, given in (("hold", step.hold is not None), ("approve", step.approve)) if given
            )
            yield Problem(
                path,
                f"100 % without a Service is the promotion itself, which can't wait: leave {what} out, "
                "or name the Service in traffic.service",
            )
    if spec.keep_old is not None:
        yield Problem(
            "spec.keepOld",
            "without a Service nothing keeps the old pods from working on: leave it out, or name the Service in "
            "traffic.service",
        )


def _afterwards(spec: ReleasePolicySpec) -> Iterator[Problem]:
    """How long there is a way back once everything is on the new version."""
    for path, length in (("spec.bake", spec.bake), ("spec.keepOld", spec.keep_old)):
        if length is not None:
            yield from _duration(path, length, positive=True)
    last = spec.steps[-1] if spec.steps else None
    if spec.bake is not None and last is not None and last.weight == 100 and last.hold is not None:
        yield Problem(
            "spec.bake",
            f"says how long the last step at 100 % lasts, and so does spec.steps[{len(spec.steps) - 1}].hold "
            f"({last.hold}): leave one of them out",
        )


def _unsupported(given: analysis.Analysis) -> Iterator[Problem]:
    """What can be written, but not done."""
    seen: set[str] = set()
    for index, check in enumerate(given.checks):
        path = f"spec.analysis.checks[{index}]"
        for kind in check.kinds:
            if kind in ("logs", "feedback") and kind in seen:
                yield Problem(f"{path}.{kind}", f"is a second check of {kind}; a policy has one at most")
            seen.add(kind)


# --- counts and durations ---


def _max_extra_pods(policy: ReleasePolicy) -> Iterator[Problem]:
    value = policy.spec.max_extra_pods
    try:
        pods = count(value, 100)
    except ValueError as error:
        yield Problem("spec.maxExtraPods", str(error))
        return
    detects = policy.spec.traffic is not None and policy.spec.traffic.detect
    if pods < 0:
        yield Problem("spec.maxExtraPods", f"{value} is below 0")
    elif pods == 0 and not is_routed(policy) and not detects and policy.spec.target.pair is None:
        yield no_extra_pods(value)


def no_extra_pods(value: int | str) -> Problem:
    """The problem of a policy without routes that allows no canary pod."""
    return Problem(
        "spec.maxExtraPods",
        f"{value} allows no canary pod, and without routes traffic follows the number of pods: "
        "allow at least 1, or split by a route",
    )


def _duration(path: str, text: str, *, positive: bool = False) -> Iterator[Problem]:
    try:
        length = seconds(text)
    except ValueError as error:
        yield Problem(path, str(error))
        return
    if positive and length <= 0:
        yield Problem(path, f'"{text}" leaves no time at all: write for example 10m')
