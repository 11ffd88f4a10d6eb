"""What is wrong with the VirtualServices of a policy, and the router for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from davylamp.api.objects import HASH_LABEL, DestinationRule, VirtualService
from davylamp.api.types import Route, VirtualServiceRoute
from davylamp.core import names
from davylamp.routers import exports, istio, istio_rules
from davylamp.routers.istio_rules import MESH, Json
from davylamp.routers.istio_split import CANARY, PROTOCOLS, STABLE, Sides, maps, sends_to
from davylamp.routers.namespace import NamespaceObjects, ours
from davylamp.routers.restoring import remembered
from davylamp.routers.router import Findings, Router
from davylamp.routers.senders import hosts_of, names_of, service_of_host
from davylamp.routers.wording import instead, labels, some


def senders(service: str, objects: NamespaceObjects) -> list[str]:
    """Names of the VirtualServices of which a route gives requests to this Service."""
    sides = Sides(objects.namespace, service, "")
    return [
        name
        for name in objects.splitting(VirtualService, service)
        if any(_sending(objects.virtual_services[name].spec, sides))
    ]


def _sending(spec: Json, sides: Sides) -> Iterator[tuple[str, Json]]:
    """Each route, with where it stands, that gives requests to the Service."""
    for protocol in PROTOCOLS:
        for index, route in enumerate(maps(spec, protocol)):
            if sends_to(route, sides.is_stable):
                yield f"spec.{protocol}[{index}]", route


def sends(name: str, service: str, objects: NamespaceObjects) -> bool:
    """Whether a VirtualService sends to this Service, or is split for it."""
    found = objects.virtual_services.get(name)
    split = found is not None and remembered(found.metadata.annotations, service, list) is not None
    return split or name in objects.splitting(VirtualService, service)


def missing(name: str, service: str, objects: NamespaceObjects) -> str:
    fitting = senders(service, objects)
    if fitting:
        hint = f'those that send to Service "{service}": {some(fitting)}'
    else:
        hint = instead(name, objects.virtual_services)
    return f'no VirtualService "{name}" in {objects.namespace}; {hint}'


def problems(route: Route, service: str, objects: NamespaceObjects) -> Findings:
    """Why requests to `service` can't be split at this VirtualService, and what to know where they can."""
    found = Findings()
    vs = objects.virtual_services[route.name]
    names = route.virtual_service.routes if route.virtual_service is not None else ()
    sides = Sides(objects.namespace, service, "", names)
    sending = list(_sending(vs.spec, sides))
    if not sending:
        found.errors.append(_never_sends(vs, service, objects))
        return found
    _named(vs, names, sides, found)
    _weights(vs, sides, found)
    by_subsets = route.virtual_service is not None and route.virtual_service.subsets
    for where, target in _targets(vs.spec, sides):
        own = target["destination"].get("subset", STABLE)
        if by_subsets and own not in (STABLE, CANARY):
            found.errors.append(
                f'{_title(vs)}: {where} names subset "{own}", and the policy asks to split by subsets: a destination '
                "has one; take it out, or leave `subsets` out"
            )
        _subset(vs, where, target["destination"], service, objects, found)
    if by_subsets:
        users = [rule for rule in _rules(service, objects) if not ours(rule)]
        found.errors += (f"{_title(vs)}: {text}" for text in exports.unseen(vs, users))
    _policies(vs, service, objects, found)
    _same_hosts(vs, objects, found)
    return found


def _title(vs: VirtualService) -> str:
    return f'VirtualService "{vs.metadata.name}"'


def _never_sends(vs: VirtualService, service: str, objects: NamespaceObjects) -> str:
    fitting = [name for name in senders(service, objects) if name != vs.metadata.name]
    hint = f"; those that do: {some(fitting)}" if fitting else "; no VirtualService does"
    told = f'{_title(vs)} never sends to Service "{service}"'
    delegates = [d for route in maps(vs.spec, "http") if isinstance(d := route.get("delegate"), dict)]
    if delegates:
        whom = some({_delegate(d, objects.namespace) for d in delegates})
        return f"{told} itself but leaves it to {whom}: name the one that sends to it{hint}"
    elsewhere = {host for host in hosts_of(vs) if host.partition(".")[0] == service}
    if elsewhere and not any(service_of_host(host, objects.namespace) == service for host in elsewhere):
        return f"{told} of {objects.namespace}, only to {some(elsewhere)}: a policy splits in its own namespace{hint}"
    if service_of_host(service, objects.namespace) in {service_of_host(h, objects.namespace) for h in hosts_of(vs)}:
        return f"{told}: its destination there has weight 0{hint}"
    to = some(set(hosts_of(vs))) or "nobody at all"
    return f"{told}, only to {to}{hint}"


def _delegate(delegate: Json, namespace: str) -> str:
    where = delegate.get("namespace", namespace)
    return str(delegate.get("name", "")) + (f" of namespace {where}" if where != namespace else "")


def _named(vs: VirtualService, names: tuple[str, ...], sides: Sides, found: Findings) -> None:
    """The HTTP routes that the policy names."""
    known = {str(route.get("name")): route for route in maps(vs.spec, "http") if route.get("name")}
    for name in names:
        if name not in known:
            found.errors.append(f'{_title(vs)} has no HTTP route named "{name}"; {instead(name, known)}')
        elif not sends_to(known[name], sides.is_stable):
            found.errors.append(f'{_title(vs)}: HTTP route "{name}" never sends to Service "{sides.service}"')
    if names and not found.errors:
        left = [where for where, route in _sending(vs.spec, sides) if not sides.covers(_protocol(where), route)]
        if left:
            found.warnings.append(
                f"{_title(vs)}: {', '.join(left)} {'sends' if len(left) == 1 else 'send'} to Service "
                f'"{sides.service}" too and {"is" if len(left) == 1 else "are"} not named: requests there stay on the '
                "stable pods until the last step"
            )


def _protocol(where: str) -> str:
    return where.removeprefix("spec.").partition("[")[0]


def _targets(spec: Json, sides: Sides) -> Iterator[tuple[str, Json]]:
    """Destinations of the Service in the routes that are split, with their places."""
    for where, route in _sending(spec, sides):
        if sides.covers(_protocol(where), route):
            for index, target in enumerate(maps(route, "route")):
                if sides.is_stable(target.get("destination")):
                    yield f"{where}.route[{index}]", target


def _weights(vs: VirtualService, sides: Sides, found: Findings) -> None:
    """What Istio would refuse, or make something else of than is written."""
    for protocol in PROTOCOLS:
        for index, route in enumerate(maps(vs.spec, protocol)):
            targets = maps(route, "route")
            if len(targets) > 1 and not any(target.get("weight") for target in targets):
                where = f"{_title(vs)}: spec.{protocol}[{index}]"
                found.errors.append(f"{where} has only weights of 0, which Istio refuses: give one of them a weight")
    for where, route in _sending(vs.spec, sides):
        targets = maps(route, "route")
        weights = [target.get("weight", 0) for target in targets]
        wrong = [w for w in weights if isinstance(w, bool) or not isinstance(w, int) or w < 0]
        if wrong:
            found.errors.append(f"{_title(vs)}: {where} has the weight {wrong[0]!r}; weights are whole numbers from 0")
            continue
        silent = [str((t.get("destination") or {}).get("host", "")) for t in targets if "weight" not in t]
        if silent and len(targets) > 1:
            found.warnings.append(
                f"{_title(vs)}: {where} has several destinations and no weight for {some(silent)}, which gets nothing"
            )
        total = sum(weights)
        if len(targets) > 1 and total != 100:
            parts = ", ".join(f"{weight} is {100 * weight / total:.3g} %" for weight in dict.fromkeys(weights))
            found.warnings.append(
                f"{_title(vs)}: {where} has weights that sum to {total} and not to 100; Istio takes them as parts of "
                f"the sum, so {parts}"
            )


def _subset(
    vs: VirtualService, where: str, destination: Json, service: str, objects: NamespaceObjects, found: Findings
) -> None:
    """A subset stays for the stable side. The canary's Service has none, so it must mean all pods of this one."""
    subset = destination.get("subset")
    if not subset or subset in (STABLE, CANARY):
        return
    rules = _rules(service, objects)
    known = {str(one.get("name")): (rule, one) for rule in rules for one in maps(rule.spec, "subsets")}
    told = f'{_title(vs)}: {where} names subset "{subset}"'
    if subset not in known:
        there = f"there are: {some(known)}" if known else "there is none"
        missing = f'{told}, which no DestinationRule for Service "{service}" has: 503 for its share'
        found.errors.append(f"{missing}; {there}")
        return
    rule, one = known[subset]
    wanted = {**(one.get("labels") or {})}
    of = f'DestinationRule "{rule.metadata.name}"'
    if HASH_LABEL in wanted:
        found.errors.append(
            f"{told}, which {of} ties to the pods of one ReplicaSet ({HASH_LABEL}={wanted[HASH_LABEL]}): after the "
            "release there are none; take that label out of the subset"
        )
        return
    selector = {key: value for key, value in objects.services[service].spec.selector.items() if key != HASH_LABEL}
    for name in sorted(objects.deployments_behind(selector)):
        pods = objects.pod_labels_of(objects.deployments[name])
        lacking = {key: value for key, value in wanted.items() if pods.get(key) != value}
        if lacking:
            found.errors.append(
                f'{told}, which {of} ties to pods with {labels(lacking)}; those of Deployment "{name}" have none of '
                "it, so nobody would answer after the release: give the subset labels that stay"
            )


def _policies(vs: VirtualService, service: str, objects: NamespaceObjects, found: Findings) -> None:
    """What a DestinationRule can't do where the versions have a host each, though a release copies its policy."""
    for rule in _rules(service, objects):
        balancing = (rule.spec.get("trafficPolicy") or {}).get("loadBalancer") or {}
        if balancing.get("consistentHash"):
            found.warnings.append(
                f'{_title(vs)}: DestinationRule "{rule.metadata.name}" has a consistentHash: a client keeps to one pod '
                "of a version, but Istio chooses the version anew for each request; match a cookie or a header where "
                "clients have to stay on one"
            )


def _same_hosts(vs: VirtualService, objects: NamespaceObjects, found: Findings) -> None:
    """Of several VirtualServices for a host, sidecars take one, and gateways an order that nobody promises."""
    hosts, gateways = names_of(vs), _gateways(vs)
    others = {name for host in hosts for name in objects.virtual_services_for(host)} - {vs.metadata.name}
    for name in sorted(others):
        other = objects.virtual_services[name]
        if gateways & _gateways(other):
            found.warnings.append(
                f'{_title(vs)}: VirtualService "{name}" has {some(hosts & names_of(other))} too, and which of the two '
                "counts is not certain: write one VirtualService for a host"
            )


def _gateways(vs: VirtualService) -> set[str]:
    return set(vs.spec.get("gateways") or [MESH])


# --- the router ---


def detected(service: str, objects: NamespaceObjects) -> tuple[list[str], list[str]]:
    """Every VirtualService that sends to the Service can be split."""
    return senders(service, objects), []


def unsplit(split: Iterable[str], service: str, objects: NamespaceObjects) -> list[str]:
    named = set(split)
    return [name for name in senders(service, objects) if name not in named]


def _rules(service: str, objects: NamespaceObjects) -> tuple[DestinationRule, ...]:
    return tuple(objects.destination_rules[name] for name in objects.splitting(DestinationRule, service))


def bind(route: Route, service: str, canary: str, objects: NamespaceObjects) -> istio.VirtualServiceRoute:
    """The VirtualService, and the DestinationRules that have a say."""
    given = route.virtual_service
    return istio.VirtualServiceRoute(
        namespace=objects.namespace,
        vs_name=route.name,
        service=service,
        routes=given.routes if given is not None else (),
        subsets=given is not None and given.subsets,
        virtual_service=objects.virtual_services.get(route.name),
        rules=_rules(service, objects),
        canary_rules=_rules(names.canary_service(service), objects),
    )


VIRTUAL_SERVICE = Router(
    field="virtualService",
    attribute="virtual_service",
    kind="VirtualService",
    kinds=("VirtualService", "DestinationRule"),
    features=istio_rules.FEATURES,
    ref=lambda name: Route(virtual_service=VirtualServiceRoute(name)),
    exists=lambda name, objects: name in objects.virtual_services,
    sends=sends,
    missing=missing,
    problems=problems,
    detect=detected,
    unsplit=unsplit,
    bind=bind,
)
